"""CamVid in the layout of SegNet: lists of an image and its mask a line, 11 classes, 11 for what is ignored."""

from __future__ import annotations

from pathlib import Path

from bnnapps.errors import DataError
from bnnapps.plugins.imagery.paths import inside
from bnnapps.plugins.segmentation.files import table
from bnnapps.plugins.segmentation.listing import list_lines, named_parts, paired
from bnnapps.plugins.segmentation.sets import FileSet, Pair, Splits

CLASSES = (*("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),)
VOID = 11


def load_camvid(root: str | Path, train: str, dev: str) -> Splits:
    """The lists `root/TRAIN.txt` and `root/DEV.txt`.

    A line names an image and its mask below `root`. Lines as SegNet published them, which begin with
    `/SegNet/CamVid/`, are read as well.

    Raises:
        DataError: a list or a file is missing, a list is empty, or a line is of another form.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(f"no data folder {root}: expected train.txt, val.txt and test.txt of SegNet's CamVid in it")
    lookup = table({i: i for i in range(len(CLASSES))}, (VOID, 255))
    parts = [FileSet(named_parts(names, lambda n: _pairs(root, n)), lookup, len(CLASSES)) for names in (train, dev)]
    return Splits(parts[0], parts[1], CLASSES, "CamVid, 11 classes (real)")


def _pairs(root: Path, name: str) -> list[Pair]:
    path = root / f"{name}.txt"
    found = []
    for number, line in list_lines(path):
        where = f"{path}, line {number}"
        words = line.split()
        if len(words) != 2:
            raise DataError(f"{where}: expected the names of an image and of its mask, found {len(words)} words")
        files = [inside(root, _below(word), where) for word in words]
        found.append(paired(files[0], files[1], where))
    return found


def _below(name: str) -> str:
    return name.partition("/CamVid/")[2] if name.startswith("/") and "/CamVid/" in name else name

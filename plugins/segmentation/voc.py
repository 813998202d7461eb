"""VOC 2012, with the further images of SBD: 20 classes and the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bnnapps.errors import DataError, MissingExtraError
from bnnapps.plugins.imagery.paths import inside
from bnnapps.plugins.segmentation.files import table
from bnnapps.plugins.segmentation.listing import list_lines, named_parts, paired
from bnnapps.plugins.segmentation.sets import FileSet, Lookup, Pair, Splits

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_LISTS = Path("ImageSets") / "Segmentation"
_AUGMENTED = "SegmentationClassAug"
_IMAGES = (".jpg", ".png", ".jpeg")


def load_voc(root: str | Path, train: str, dev: str, sbd: str | Path | None) -> Splits:
    """The lists `ImageSets/Segmentation/TRAIN.txt` and `DEV.txt` below `root` (or `root/VOC2012`, `VOCdevkit/VOC2012`).

    Masks lie in `SegmentationClass`; where there is a folder `SegmentationClassAug`, as the merged set is often
    handed out, they come from there if they are not in the first. `classes.txt` beside the images, if there, names the
    classes of a set of one's own, one a line, the background first. With `sbd`, all images of SBD train too but for
    those of the dev list, so that VOC's train and val and SBD make the 10,582 of papers.

    Raises:
        DataError: with one clear line that names the file.
    """
    folder = _folder(Path(root).expanduser())
    classes = _classes(folder)
    lookup = table({i: i for i in range(len(classes))})
    dev_pairs = named_parts(dev, lambda n: _pairs(folder, n))
    train_pairs = named_parts(train, lambda n: _pairs(folder, n))
    if sbd is None:
        return Splits(
            FileSet(train_pairs, lookup, len(classes)),
            FileSet(dev_pairs, lookup, len(classes)),
            classes,
            f"{folder.name} (from a VOC tree)",
        )
    taken = {pair.image.stem for pair in (*train_pairs, *dev_pairs)}
    more = [pair for pair in _sbd_pairs(Path(sbd).expanduser()) if pair.image.stem not in taken]
    train_set = FileSet([*train_pairs, *more], lookup, len(classes))
    return Splits(train_set, FileSet(dev_pairs, lookup, len(classes)), classes, f"{folder.name} and SBD (real)")


def _folder(root: Path) -> Path:
    for found in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (found / _LISTS).is_dir() and (found / "JPEGImages").is_dir():
            return found
    raise DataError(f"{root} is no VOC tree: expected JPEGImages, SegmentationClass and {_LISTS} in it")


def _classes(folder: Path) -> tuple[str, ...]:
    path = folder / "classes.txt"
    if not path.is_file():
        return CLASSES
    return tuple(line for _, line in list_lines(path))


def _pairs(folder: Path, name: str) -> list[Pair]:
    path = inside(folder / _LISTS, f"{name}.txt", "data.train_list or data.dev_list")
    found = []
    for number, line in list_lines(path):
        where = f"{path}, line {number}"
        image = _image(folder / "JPEGImages", line, where)
        masks = [inside(folder / kind, f"{line}.png", where) for kind in ("SegmentationClass", _AUGMENTED)]
        mask = masks[1] if not masks[0].is_file() and masks[1].is_file() else masks[0]
        found.append(paired(image, mask, where))
    return found


def _image(folder: Path, stem: str, where: str) -> Path:
    named = [inside(folder, stem + suffix, where) for suffix in _IMAGES]
    return next((path for path in named if path.is_file()), named[0])


def _sbd_pairs(root: Path) -> list[Pair]:
    root = root / "dataset" if (root / "dataset").is_dir() else root
    if not (root / "cls").is_dir() or not (root / "img").is_dir():
        raise DataError(f"{root} is not SBD: expected the folders cls and img, and train.txt and val.txt")
    found = []
    for name in ("train", "val"):
        path = root / f"{name}.txt"
        for number, line in list_lines(path):
            where = f"{path}, line {number}"
            files = inside(root / "img", f"{line}.jpg", where), inside(root / "cls", f"{line}.mat", where)
            found.append(paired(*files, where))
    return found


def read_sbd(path: Path) -> Lookup:
    """The class numbers in a `.mat` file of SBD (`GTcls.Segmentation`), uint8 (H, W).

    Raises:
        DataError: the file is damaged, or holds something else.
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MissingExtraError("scipy", "image", "data.sbd_root") from None
    try:
        content: Any = loadmat(str(path), variable_names=["GTcls"])
        found = np.asarray(content["GTcls"][0, 0]["Segmentation"])
    except Exception as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise DataError(f"{path} is no mask of SBD: {reason}") from None
    if found.ndim != 2 or found.dtype != np.uint8:
        raise DataError(f"{path}: GTcls.Segmentation is {found.dtype} of shape {found.shape}; expected uint8 (H, W)")
    return found

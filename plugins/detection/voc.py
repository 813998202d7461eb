"""Boxes in Pascal VOC's layout: JPEGImages, Annotations and ImageSets/Main, for one year or several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from bnnapps.errors import DataError
from bnnapps.plugins.detection.boxes import Written
from bnnapps.plugins.detection.files import Broken, annotated, class_number
from bnnapps.plugins.detection.sets import Annotated
from bnnapps.plugins.imagery.images import SUFFIXES
from bnnapps.plugins.imagery.paths import inside
from bnnapps.plugins.imagery.xml import read_xml

_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocFile:
    """An annotation that was read, with the image that it belongs to."""

    path: Path
    image: Path
    size: tuple[int, int] | None
    objects: Sequence[tuple[str, Written]]


def read_voc(root: Path, splits: Sequence[str]) -> list[VocFile]:
    """The annotations of lists below ImageSets/Main.

    Args:
        root: has JPEGImages, Annotations and ImageSets/Main, or folders that have them.
        splits: such as `train`, or `VOC2007/trainval` where the root has folders.

    Raises:
        DataError: a list is missing or empty, an image has no annotation or the reverse, an annotation is malformed,
            or a name leads out of its folder.

    """
    if not root.is_dir():
        raise DataError(f"no data folder {root}: expected JPEGImages, Annotations and ImageSets/Main in it")
    found: list[VocFile] = []
    seen: set[Path] = set()
    for split in splits:
        folder, _, name = split.replace("\\", "/").rpartition("/")
        base = inside(root, folder, f"the split '{split}'") if folder else root
        for file in _read_list(root, base, name, split):
            if file.path in seen:
                raise DataError(f"{file.path} is listed twice in {_list_path(base, name)} or another of the splits")
            seen.add(file.path)
            found.append(file)
    return found


def voc_classes(files: Sequence[VocFile]) -> tuple[str, ...]:
    """The names that occur, sorted, which is VOC's own order."""
    return tuple(sorted({name for file in files for name, _ in file.objects}))


def voc_rows(files: Sequence[VocFile], classes: Sequence[str]) -> list[Annotated | Broken]:
    """The images with their objects, labels by the place of their class in the list, from 1 on.

    Raises:
        DataError: a class that is not in the list; an image of another size than its annotation says.
    """
    rows = []
    for number, file in enumerate(files):
        written = [
            w._replace(label=class_number(name, classes, f"{file.path}: object {i}"))
            for i, (name, w) in enumerate(file.objects, 1)
        ]
        rows.append(annotated(file.image, written, file.size, str(file.path), number))
    return rows


def _list_path(base: Path, name: str) -> Path:
    return inside(base / "ImageSets" / "Main", f"{name}.txt", f"the split '{name}'")


def _read_list(root: Path, base: Path, name: str, split: str) -> list[VocFile]:
    path = _list_path(base, name)
    if not path.is_file():
        raise DataError(f"no list {path}: {_other_lists(root, base)}")
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path} cannot be read: {problem}") from None
    numbered = [(number, each) for number, each in enumerate(names, 1) if each]
    if not numbered:
        raise DataError(f"{path} lists no image: the split '{split}' is empty")
    return [_read_annotation(base, each, f"{path}, line {number}") for number, each in numbered]


def _other_lists(root: Path, base: Path) -> str:
    lists = sorted(p.stem for p in (base / "ImageSets" / "Main").glob("*.txt") if "_" not in p.stem)
    if lists:
        return f"there are {', '.join(lists[:8])}; name them in data.train_splits and data.dev_splits"
    folders = sorted(p.parent.parent.name for p in root.glob("*/ImageSets/Main"))
    if folders:
        return f"{root} has the folders {', '.join(folders[:8])}; write a split such as {folders[0]}/train"
    return "expected JPEGImages, Annotations and ImageSets/Main in data.root, or in folders there"


def _read_annotation(base: Path, name: str, where: str) -> VocFile:
    path = inside(base / "Annotations", f"{name}.xml", where)
    image = _find_image(base / "JPEGImages", name, where)
    if not path.is_file():
        if image is None:
            raise DataError(f"{where}: '{name}' has neither the annotation {path} nor an image in JPEGImages")
        raise DataError(f"{image} has no annotation: {path} is missing ({where})")
    root = read_xml(path, "annotation")
    given = (root.findtext("filename") or "").strip()
    if given:
        by_name = inside(base / "JPEGImages", given, f"{path}, <filename>")
        image = by_name if image is None and by_name.is_file() else image
    if image is None:
        raise DataError(f"{path} has no image: there is no {base / 'JPEGImages' / name}.jpg ({where})")
    objects = [_read_object(each, f"{path}: object {i}") for i, each in enumerate(root.findall("object"), 1)]
    return VocFile(path, image, _read_size(root), objects)


def _find_image(folder: Path, name: str, where: str) -> Path | None:
    stem = str(inside(folder, name, where))
    paths = (Path(stem + suffix) for small in SUFFIXES for suffix in (small, small.upper()))
    return next((path for path in paths if path.is_file()), None)


def _read_size(root: Element) -> tuple[int, int] | None:
    """Width and height; `None` where the annotation gives none, or 0 as some tools write."""
    sides = []
    for key in ("width", "height"):
        text = root.findtext(f"size/{key}")
        try:
            sides.append(int(float(text)) if text else 0)
        except (ValueError, OverflowError):
            sides.append(0)
    return (sides[0], sides[1]) if min(sides) > 0 else None


def _read_object(element: Element, where: str) -> tuple[str, Written]:
    """The class and the box.

    VOC counts pixels from 1 and includes the last one, so that xmin to xmax spans xmin - 1 to xmax. Where both are the
    same number the box is a click that was never drawn up: it counts as one without area.
    """
    name = (element.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{where} has no <name>")
    box = element.find("bndbox")
    if box is None:
        raise DataError(f"{where} ('{name}') has no <bndbox>")
    values = []
    for side in _SIDES:
        text = (box.findtext(side) or "").strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or abs(value) > 1e9:
            raise DataError(f"{where} ('{name}') has {side} = '{text[:40]}'; expected a number of pixels")
        values.append(value)
    left, upper, right, lower = values
    difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true")
    written = Written((left - 1, upper - 1, right, lower), 0, right <= left or lower <= upper, difficult)
    return name, written

"""What readers of annotations share: matching an annotation with its image file, and naming classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnnapps.errors import DataError, nearest
from bnnapps.plugins.detection.boxes import Written, cleaned
from bnnapps.plugins.detection.sets import Annotated
from bnnapps.plugins.imagery.images import BrokenImageError, broken_message, read_header


@dataclass(frozen=True)
class Broken:
    """A file whose header cannot be read, with the reason."""

    path: Path
    reason: str


def annotated(
    path: Path, written: Sequence[Written], size: tuple[int, int] | None, where: str, image_id: int
) -> Annotated | Broken:
    """The image with its objects; its header is read, its pixels are not.

    An image with an EXIF orientation is taken as a viewer shows it, unless the annotation gives the size of the pixels
    as they are stored, and that alone.

    Args:
        path: of the image.
        written: its objects.
        size: width and height that the annotation gives; `None`: it gives none.
        where: for messages: the file and entry of the annotation.
        image_id: its number.

    Raises:
        DataError: the image is of another size than its annotation says.

    """
    try:
        header = read_header(path)
    except BrokenImageError as problem:
        return Broken(path, str(problem))
    oriented = size is None or size == header.seen
    if size is not None and size not in (header.seen, (header.width, header.height)):
        raise DataError(
            f"{where} is for an image of {size[0]} x {size[1]} pixels, but {path} has {header.seen[0]} x "
            f"{header.seen[1]}: its boxes would be in the wrong places; correct one of the two"
        )
    width, height = header.seen if oriented else (header.width, header.height)
    objects, counts = cleaned(written, width, height, image_id)
    return Annotated(path, objects, counts, oriented, header.deep, header.mode)


def kept(found: Sequence[Annotated | Broken], skip_broken: bool, broken: dict[Path, str]) -> list[Annotated]:
    """Those that can be read; the others are noted in `broken`, or the first of them is an error."""
    rows = []
    for row in found:
        if isinstance(row, Annotated):
            rows.append(row)
        elif skip_broken:
            broken[row.path] = row.reason
        else:
            raise DataError(broken_message(row.path, row.reason))
    return rows


def class_number(name: str, classes: Sequence[str], where: str) -> int:
    """The label of a class, from 1 on.

    Raises:
        DataError: it is not in the list.
    """
    try:
        return classes.index(name) + 1
    except ValueError:
        raise DataError(
            f"{where} is of the class '{name}', which is not in data.classes; the nearest are {nearest(name, classes)}"
        ) from None

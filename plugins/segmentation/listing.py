"""What the readers of segmentation sets share: lists of names, and images with their masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from bnnapps.errors import DataError
from bnnapps.plugins.segmentation.sets import Pair


def list_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list that are not empty, numbered from 1.

    Raises:
        DataError: the list is missing, no text, or empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(p.stem for p in path.parent.glob("*.txt")) if path.parent.is_dir() else []
        there = f"; there are {', '.join(near[:8])}" if near else ""
        raise DataError(f"no list {path}{there}: set data.train_list and data.dev_list") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path} cannot be read: {problem}") from None
    found = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise DataError(f"{path} is empty: expected a line for each image")
    yield from found


def named_parts(names: str, read: Callable[[str], list[Pair]]) -> list[Pair]:
    """The pairs of one list, or of several with `+` between their names, each image once."""
    found: dict[Path, Pair] = {}
    for name in names.split("+"):
        for pair in read(name.strip()):
            found.setdefault(pair.image, pair)
    return list(found.values())


def paired(image: Path, mask: Path, where: str) -> Pair:
    """Both files.

    Raises:
        DataError: an image without its mask, or the reverse.
    """
    if not image.is_file():
        there = f"its mask {mask} is there" if mask.is_file() else "neither is its mask"
        raise DataError(f"{where}: the image {image} is missing ({there}): correct the list, or add the file")
    if not mask.is_file():
        raise DataError(f"{where}: {image} has no mask {mask}: correct the list, or add the file")
    return Pair(image, mask)

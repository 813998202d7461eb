"""Cityscapes in its own layout: leftImg8bit/SPLIT/CITY/*.png and gtFine/SPLIT/CITY/*.png."""

from __future__ import annotations

from pathlib import Path

from bnnapps.errors import DataError
from bnnapps.plugins.segmentation.files import table
from bnnapps.plugins.segmentation.listing import named_parts, paired
from bnnapps.plugins.segmentation.sets import FileSet, Pair, Splits

# The number that masks *_labelIds.png give each class that is evaluated.
NUMBERS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
CLASSES = tuple(NUMBERS)
_LAST = 33
_IMAGE, _MASK = "_leftImg8bit.png", "_gtFine_labelIds.png"


def load_cityscapes(root: str | Path, train: str, dev: str) -> Splits:
    """The 19 classes that are evaluated; all other numbers of `*_gtFine_labelIds.png` are ignored.

    Raises:
        DataError: a folder is missing or empty, or an image lacks its mask or the reverse.
    """
    root = Path(root).expanduser()
    for folder in ("leftImg8bit", "gtFine"):
        if not (root / folder).is_dir():
            raise DataError(f"no folder '{folder}' in {root}: expected leftImg8bit and gtFine of Cityscapes")
    rest = tuple(n for n in range(_LAST + 1) if n not in NUMBERS.values())
    # The number of licence plates is -1, which is 255 in a byte.
    lookup = table({number: i for i, number in enumerate(NUMBERS.values())}, (*rest, 255))
    parts = [FileSet(named_parts(names, lambda n: _pairs(root, n)), lookup, len(CLASSES)) for names in (train, dev)]
    return Splits(parts[0], parts[1], CLASSES, "Cityscapes, 19 classes (real)")


def _pairs(root: Path, split: str) -> list[Pair]:
    folder, masks = root / "leftImg8bit" / split, root / "gtFine" / split
    if not folder.is_dir() or split in ("", ".", ".."):
        known = sorted(p.name for p in folder.parent.iterdir() if p.is_dir())
        raise DataError(f"no folder {folder}; there are {', '.join(known)}: set data.train_list and data.dev_list")
    images = sorted(folder.glob(f"*/*{_IMAGE}"))
    if not images:
        raise DataError(f"{folder} has no images: expected CITY/*{_IMAGE}")
    found = []
    for image in images:
        stem = image.name.removesuffix(_IMAGE)
        found.append(paired(image, masks / image.parent.name / f"{stem}{_MASK}", str(folder)))
    expected = {pair.mask for pair in found}
    lonely = next((m for m in sorted(masks.glob(f"*/*{_MASK}")) if m not in expected), None)
    if lonely is not None:
        raise DataError(f"{lonely} has no image in {folder}: add it, or delete the mask")
    return found

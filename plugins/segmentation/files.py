"""Image files and mask files as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.imagery.images import BrokenImageError, decode_labels, decode_rgb
from bnnapps.plugins.segmentation.sets import IGNORE, Lookup

UNKNOWN = 254
"""In a lookup: a number that no mask of the set may hold."""


def read_image(path: Path) -> Tensor:
    """An image of any usual kind as uint8 (3, H, W): 16 bits, CMYK, palettes and grey become 8-bit RGB.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        pixels = decode_rgb(path)
    except BrokenImageError as problem:
        raise DataError(f"{path} cannot be decoded ({problem}): repair it, or take it from the list") from None
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def read_mask(path: Path, lookup: Lookup) -> Tensor:
    """A mask as uint8 (H, W), class numbers and `IGNORE`, from a grey or palette image, or a `.mat` file of SBD.

    Raises:
        DataError: it cannot be decoded, has colours without a palette, or a number that is no class.
    """
    if path.suffix == ".mat":
        from bnnapps.plugins.segmentation.voc import read_sbd

        return torch.from_numpy(looked_up(read_sbd(path), lookup, str(path)))
    try:
        numbers = decode_labels(path)
    except BrokenImageError as problem:
        raise DataError(f"{path} is no mask ({problem})") from None
    return torch.from_numpy(looked_up(numbers, lookup, str(path)))


def looked_up(numbers: Lookup, lookup: Lookup, where: str) -> Lookup:
    """The classes of a mask's numbers; `DataError` for one that is `UNKNOWN`."""
    found: Lookup = lookup[numbers]
    if bool((found == UNKNOWN).any()):
        wrong = int(numbers[found == UNKNOWN][0])
        known = int((lookup < UNKNOWN).sum())
        raise DataError(
            f"{where} has pixels of the number {wrong}, which is no class: expected {known} numbers, "
            f"{_span(lookup)}, or one of those that are ignored ({_ignored(lookup)})"
        )
    return found


def table(classes: dict[int, int], ignored: tuple[int, ...] = (IGNORE,)) -> Lookup:
    """A lookup: the class of each number that a mask may hold, and the numbers that are ignored."""
    found = np.full(256, UNKNOWN, dtype=np.uint8)
    found[list(ignored)] = IGNORE
    for number, chosen in classes.items():
        found[number] = chosen
    return found


def _span(lookup: Lookup) -> str:
    numbers = np.flatnonzero(lookup < UNKNOWN)
    return f"{numbers.min()} to {numbers.max()}"


def _ignored(lookup: Lookup) -> str:
    numbers = np.flatnonzero(lookup == IGNORE).tolist()
    return ", ".join(map(str, numbers[:4])) + (" …" if len(numbers) > 4 else "") if numbers else "none"

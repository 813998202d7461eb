"""Images with a class number for each pixel: in memory, or in files that are decoded when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnnapps.errors import DataError, nearest

IGNORE = 255
"""The number of pixels that count neither in the loss nor in a metric."""

Pixels = NDArray[np.uint8]
Lookup = NDArray[np.uint8]
"""256 entries: the class, or `IGNORE`, of each number that a mask file may hold."""


@dataclass(frozen=True)
class Pair:
    """An image file with the file of its mask."""

    image: Path
    mask: Path


@dataclass(frozen=True)
class ArraySet:
    """Images and masks in memory.

    Attributes:
        images: uint8, (N, 3, H, W).
        masks: uint8, (N, H, W), class numbers and `IGNORE`.
    """

    images: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int]) -> ArraySet:
        """Some of them."""
        chosen = torch.tensor(list(indices))
        return ArraySet(self.images[chosen], self.masks[chosen])

    def at(self, index: int) -> tuple[Tensor, Tensor]:
        """An image (3, H, W) and its mask (H, W)."""
        return self.images[index], self.masks[index]


@dataclass(frozen=True)
class FileSet:
    """Images and masks in files.

    Attributes:
        pairs: the files.
        lookup: what a mask's numbers stand for.
        classes: how many there are.
        fit: brings a decoded image and its mask to one size.
    """

    pairs: Sequence[Pair]
    lookup: Lookup
    classes: int
    fit: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def take(self, indices: Sequence[int]) -> FileSet:
        """Some of them."""
        return replace(self, pairs=[self.pairs[i] for i in indices])

    def at(self, index: int) -> tuple[Tensor, Tensor]:
        """An image (3, H, W) and its mask (H, W), decoded.

        Raises:
            DataError: a file cannot be decoded, or both do not fit together.
        """
        from bnnapps.plugins.segmentation.files import read_image, read_mask

        pair = self.pairs[index]
        image, mask = read_image(pair.image), read_mask(pair.mask, self.lookup)
        if mask.shape != image.shape[1:]:
            raise DataError(
                f"{pair.mask} is {mask.shape[0]}x{mask.shape[1]} and its image {pair.image} "
                f"{image.shape[1]}x{image.shape[2]} (height, width): a mask must have the size of its image"
            )
        return (image, mask) if self.fit is None else self.fit(image, mask)


Part = ArraySet | FileSet


@dataclass(frozen=True)
class Splits:
    """The training set and the dev set, with the names of the classes and a description for people."""

    train: Part
    dev: Part
    classes: tuple[str, ...]
    description: str


def drawn(part: Part, size: int | None, seed: int) -> Part:
    """`size` examples drawn with the seed, in the order of the data; all of them where there are not more."""
    if size is None or size >= len(part):
        return part
    chosen = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))[:size]
    return part.take(chosen.sort().values.tolist())


def one_against_the_rest(splits: Splits, name: str) -> Splits:
    """Two classes in place of all: `rest` and the named one. Ignored pixels stay ignored.

    Raises:
        DataError: there is no class of that name; the nearest are given.
    """
    if name not in splits.classes:
        raise DataError(f"data.only is '{name}', which is no class; the nearest are {nearest(name, splits.classes)}")
    wanted = splits.classes.index(name)
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[: len(splits.classes)] = 0
    table[wanted] = 1

    def merged(part: Part) -> Part:
        if isinstance(part, ArraySet):
            return ArraySet(part.images, torch.from_numpy(table)[part.masks.long()])
        known = part.lookup < len(splits.classes)
        return replace(part, lookup=np.where(known, table[part.lookup], part.lookup), classes=2)

    return Splits(merged(splits.train), merged(splits.dev), ("rest", name), f"{splits.description}, {name} or not")

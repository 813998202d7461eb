"""Image sets: arrays in memory, or files that are decoded when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bnnapps.errors import DataError

Array = NDArray[np.generic]
"""A numpy array of any type."""


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ArraySet:
    """Images in memory.

    Attributes:
        images: uint8, (N, C, H, W).
        labels: int64, (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> ArraySet:
        """Some of the images."""
        return ArraySet(self.images[indices], self.labels[indices])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class FileSet:
    """Images in files.

    Attributes:
        paths: one a file.
        labels: int64, (N,).
    """

    paths: Sequence[Path]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> FileSet:
        """Some of the images."""
        return FileSet([self.paths[i] for i in indices.tolist()], self.labels[indices])


@dataclass(frozen=True)
class ImageSplits:
    """The training set and the dev set, with the names of the classes and a description for people."""

    train: ArraySet | FileSet
    dev: ArraySet | FileSet
    classes: tuple[str, ...]
    description: str


def check_labels(labels: Tensor, classes: int, where: str) -> None:
    """Raise `DataError` for a label that is no class."""
    wrong = (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0, 0])
        raise DataError(
            f"{where}: image {at} has the label {int(labels[at])}, but there are {classes} classes, 0 to {classes - 1}"
        )


def check_splits(splits: ImageSplits, where: str) -> ImageSplits:
    """The splits, if every label is a class, every dev class has training images, and shapes agree.

    Raises:
        DataError: with one clear line.
    """
    for name, part in (("training", splits.train), ("dev", splits.dev)):
        if len(part) == 0:
            raise DataError(f"{where}: the {name} set is empty")
        check_labels(part.labels, len(splits.classes), f"{where}, {name} set")
    unseen = sorted(set(splits.dev.labels.unique().tolist()) - set(splits.train.labels.unique().tolist()))
    if unseen:
        raise DataError(
            f"{where}: class {unseen[0]} ('{splits.classes[unseen[0]]}') has dev images and no training images"
        )
    if (
        isinstance(splits.train, ArraySet)
        and isinstance(splits.dev, ArraySet)
        and splits.train.shape != splits.dev.shape
    ):
        raise DataError(
            f"{where}: training images are {_words(splits.train.shape)} and dev images {_words(splits.dev.shape)}: "
            "they must be the same"
        )
    return splits


def _words(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]} x {shape[1]} x {shape[2]} (channels, height, width)"


def drawn(part: ArraySet | FileSet, size: int | None, seed: int) -> ArraySet | FileSet:
    """`size` examples drawn with the seed, in the order of the data; all of them where there are not more."""
    if size is None or size >= len(part):
        return part
    chosen = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))[:size]
    return part.take(chosen.sort().values)


def fitted(part: ArraySet, size: int | None, channels: int | None) -> ArraySet:
    """The images at another size (bilinear, with antialiasing) or with a grey channel repeated.

    Raises:
        DataError: colour images cannot become grey ones this way.
    """
    images = part.images
    if channels is not None and channels != images.shape[1]:
        if images.shape[1] != 1:
            raise DataError(f"data.channels is {channels}, but the images have {images.shape[1]}: drop data.channels")
        images = images.expand(-1, channels, -1, -1).contiguous()
    if size is not None and tuple(images.shape[2:]) != (size, size):
        rows = [_resized(chunk, size) for chunk in images.split(1024)]
        images = torch.cat(rows)
    return replace(part, images=images)


def _resized(images: Tensor, size: int) -> Tensor:
    scaled = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


def pixel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 images (N, C, H, W), for pixels in [0, 1].

    Exact, from histograms. A channel that is constant gets the deviation 1, so that it can be divided by.
    """
    means, deviations = [], []
    values = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(images.shape[1]):
        counts = sum(torch.bincount(c.flatten(), minlength=256) for c in images[:, channel].split(4096))
        share = counts.double() / images[:, channel].numel()  # type: ignore[union-attr]
        mean = float((share * values).sum())
        deviation = float((share * (values - mean) ** 2).sum()) ** 0.5
        means.append(mean)
        deviations.append(deviation if deviation > 0 else 1.0)
    return means, deviations

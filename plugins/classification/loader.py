"""Batches of images for training and evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.classification.augment import Normalize, keys, shifted, uniform
from bnnapps.plugins.classification.config import ImageData
from bnnapps.plugins.classification.folder import (
    BrokenImageError,
    broken_message,
    decode,
    evaluation_transform,
    training_transform,
)
from bnnapps.plugins.classification.sets import ArraySet, FileSet
from bnnapps.training.loader import EpochLoader

Batch = dict[str, Tensor]


class Raw(NamedTuple):
    """A batch before it is normalised: images as uint8, labels, and the files that could not be decoded."""

    images: Tensor | None
    labels: Tensor
    broken: list[tuple[Path, str]]


class ArrayExamples:
    """Images in memory; a batch is taken out and changed at once.

    Args:
        part: the images.
        augment: `none`, `crop` or `flip_crop`.
        padding: for both of the latter.
        seed: of the changes.

    """

    def __init__(self, part: ArraySet, augment: str, padding: int, seed: int) -> None:
        self.part, self.augment, self.padding, self.seed = part, augment, padding, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> Raw:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Raw:
        """A batch."""
        chosen = torch.tensor(indices)
        images = self.part.images[chosen]
        if self.augment != "none":
            numbers = uniform(self.seed, self.epoch, np.asarray(indices), 3)
            images = shifted(images, self.padding, self.augment == "flip_crop", numbers)
        return Raw(images, self.part.labels[chosen], [])


class FileExamples:
    """Images in files, decoded when they are asked for.

    Args:
        part: the files.
        transform: PIL image to a uint8 tensor; torch's CPU generator is seeded from (seed, epoch, image) before it.
        seed: of that.

    """

    def __init__(self, part: FileSet, transform: Any, seed: int) -> None:
        self.part, self.transform, self.seed = part, transform, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[Tensor | None, int, str]:
        """The image (`None`: it cannot be decoded), its index, and the reason if so."""
        key = int(keys(self.seed, self.epoch, np.asarray([index]), 1)[0, 0])
        try:
            image = decode(self.part.paths[index])
        except BrokenImageError as problem:
            return None, index, str(problem)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(key % 2**63)
            return self.transform(image), index, ""

    def collate(self, rows: list[tuple[Tensor | None, int, str]]) -> Raw:
        """A batch of those that could be decoded."""
        images = [image for image, _, _ in rows if image is not None]
        labels = self.part.labels[[index for image, index, _ in rows if image is not None]]
        broken = [(self.part.paths[index], reason) for image, index, reason in rows if image is None]
        return Raw(torch.stack(images) if images else None, labels, broken)


class ImageLoader(EpochLoader):
    """Batches `{"images": (N, C, H, W) float32, "labels": (N,)}`, with random changes that follow the epoch.

    Args:
        examples: the images.
        normalize: the last step.
        batch_size: images a batch.
        seed: of the order.
        shuffle: false keeps the order of the data.
        workers: processes that decode.
        broken: takes the files that could not be decoded, with the reason; `None`: the first one is an error.

    """

    def __init__(
        self,
        examples: ArrayExamples | FileExamples,
        normalize: Normalize,
        batch_size: int,
        seed: int,
        shuffle: bool,
        workers: int = 0,
        broken: dict[Path, str] | None = None,
    ) -> None:
        collate: Any = examples.collate if isinstance(examples, FileExamples) else _same
        super().__init__(examples, collate, batch_size, seed, shuffle=shuffle, workers=workers)  # type: ignore[arg-type]
        self.examples, self.normalize, self.broken = examples, normalize, broken

    def set_epoch(self, epoch: int) -> None:
        """Start the given epoch from its first batch."""
        super().set_epoch(epoch)
        self.examples.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        raw: Raw
        for raw in super().__iter__():
            for path, reason in raw.broken:
                self._note(path, reason)
            if raw.images is None:
                raise DataError(
                    f"none of the {len(raw.broken)} images of a batch can be decoded, {raw.broken[0][0]} among them"
                )
            yield {"images": self.normalize(raw.images), "labels": raw.labels}

    def _note(self, path: Path, reason: str) -> None:
        if self.broken is None:
            raise DataError(broken_message(path, reason))
        if path not in self.broken:
            self.broken[path] = reason
            warnings.warn(f"{path} cannot be decoded ({reason}): left out", stacklevel=2)


def _same(raw: Raw) -> Raw:
    return raw


def image_loader(
    part: ArraySet | FileSet,
    settings: ImageData,
    normalize: Normalize,
    size: int,
    seed: int,
    broken: dict[Path, str],
    train: bool,
) -> ImageLoader:
    """The loader of the training set (shuffled, changed) or of the dev set (in order, as it is)."""
    examples: ArrayExamples | FileExamples
    if isinstance(part, ArraySet):
        examples = ArrayExamples(part, settings.augment if train else "none", settings.padding, seed)
    else:
        transform = training_transform(settings.augment, size, settings) if train else evaluation_transform(size)
        examples = FileExamples(part, transform, seed)
    return ImageLoader(
        examples,
        normalize,
        settings.batch_size if train else settings.eval_batch_size,
        seed,
        shuffle=train,
        workers=settings.workers,
        broken=broken if settings.skip_broken else None,
    )

"""Batches of clouds for training and evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.pointclouds.augment import augmented, cloud_rng
from bnnapps.plugins.pointclouds.data_config import CloudData
from bnnapps.plugins.pointclouds.sets import CloudSet
from bnnapps.training.loader import EpochLoader

Batch = dict[str, Tensor]


class Examples:
    """Clouds of `settings.points` points; in training other ones in each epoch, and changed as the settings say.

    Args:
        part: the clouds.
        settings: how they are drawn and changed.
        seed: of both.
        training: false takes the first points of each cloud, as they are.

    """

    def __init__(self, part: CloudSet, settings: CloudData, seed: int, training: bool) -> None:
        self.part, self.settings, self.seed, self.training = part, settings, seed, training
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        rng = cloud_rng(self.seed, self.epoch, index) if self.training else None
        points, label = self.part.at(index, self.settings.points, rng)
        if rng is not None:
            moved = augmented(points, self.settings, rng, self.settings.normals)
            if self.part.per_point and self.settings.dropout > 0:
                # Points that fell away show the first one, and so its class.
                label = torch.where((moved == moved[0]).all(dim=1), label[0], label)
            points = moved
        kind = 0 if self.part.categories is None else int(self.part.categories[index])
        return points, label, kind


class CloudLoader(EpochLoader):
    """Batches `{"points": (B, n, C) float32, "labels": (B,) or (B, n) int64, "categories": (B,) int64}`.

    Args:
        examples: the clouds.
        batch_size: clouds a batch.
        seed: of the order.
        shuffle: false keeps the order of the data.
        workers: processes that make batches.

    """

    def __init__(self, examples: Examples, batch_size: int, seed: int, shuffle: bool, workers: int = 0) -> None:
        super().__init__(examples, _stacked, batch_size, seed, shuffle=shuffle, workers=workers)  # type: ignore[arg-type]
        self.examples = examples

    def set_epoch(self, epoch: int) -> None:
        """Start the given epoch from its first batch."""
        super().set_epoch(epoch)
        self.examples.epoch = epoch


def _stacked(rows: list[tuple[Tensor, Tensor, int]]) -> Batch:
    points = torch.stack([row[0] for row in rows])
    if not bool(torch.isfinite(points).all()):
        raise DataError("a batch holds a point that is not finite: check the files of the data")
    labels = torch.stack([row[1] for row in rows])
    return {"points": points, "labels": labels, "categories": torch.tensor([row[2] for row in rows])}

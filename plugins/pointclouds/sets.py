"""Clouds of points with a class for each cloud, or for each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnnapps.errors import DataError

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class CloudSet:
    """Clouds in memory, or in a file that is mapped into it.

    Attributes:
        points: float32, (N, P, C): P points a cloud; the first three of C channels are x, y and z. A network sees some
            of the P, other ones in each epoch.
        labels: class numbers, (N,), or (N, P) where each point has one.
        origin: for messages: the folder, file or generator.
        repeat: whether points come again where more are asked for than P.
        categories: (N,), for parts: which of `Splits.categories` a cloud is of.
    """

    points: Floats
    labels: NDArray[Any]
    origin: str
    repeat: bool = False
    categories: Labels | None = None

    def __len__(self) -> int:
        return len(self.points)

    @property
    def stored(self) -> int:
        """P, the points of a cloud that are stored."""
        return int(self.points.shape[1])

    @property
    def channels(self) -> int:
        """C, the numbers of a point."""
        return int(self.points.shape[2])

    @property
    def per_point(self) -> bool:
        """Whether each point has a class."""
        return self.labels.ndim == 2

    def take(self, indices: Sequence[int]) -> CloudSet:
        """Some of the clouds, read into memory."""
        chosen = np.asarray(indices, dtype=np.int64)
        categories = None if self.categories is None else self.categories[chosen]
        return replace(self, points=self.points[chosen], labels=self.labels[chosen], categories=categories)

    def at(self, index: int, count: int, rng: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
        """`count` points (count, C) of a cloud and its class, or the class of each point.

        Args:
            index: of the cloud.
            count: how many points.
            rng: draws them; without one they are the first, which are as good as any (the stored order is random).

        Raises:
            DataError: more are asked for than there are, and `repeat` is false.
        """
        stored = self.stored
        if count > stored and not self.repeat:
            raise DataError(
                f"{self.origin}: cloud {index} has {stored} points, and data.points is {count}: set data.points to "
                f"{stored} at most, or data.repeat to true"
            )
        order = np.arange(stored) if rng is None else rng.permutation(stored)
        chosen = np.resize(order, count)
        points = torch.from_numpy(np.ascontiguousarray(self.points[index][chosen], dtype=np.float32))
        label = self.labels[index]
        return points, torch.as_tensor(np.asarray(label[chosen] if self.per_point else label).astype(np.int64))


@dataclass(frozen=True)
class Splits:
    """Training set and dev set.

    Attributes:
        train, dev: the clouds.
        classes: the names of what the labels count: of clouds, or of points.
        description: for people.
        categories: for parts: the kinds of shapes.
        parts: for parts: the classes that each category has.
    """

    train: CloudSet
    dev: CloudSet
    classes: tuple[str, ...]
    description: str
    categories: tuple[str, ...] = ()
    parts: tuple[tuple[int, ...], ...] = ()


def drawn(part: CloudSet, size: int | None, seed: int) -> CloudSet:
    """`size` clouds drawn with the seed, in the order of the data; all of them where there are not more."""
    if size is None or size >= len(part):
        return part
    chosen = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))[:size]
    return part.take(chosen.sort().values.tolist())


def unit_sphere(points: NDArray[np.floating[Any]]) -> Floats:
    """x, y, z moved to mean 0 and divided by the largest distance from it; other channels stay.

    Args:
        points: (..., P, C), C >= 3. A cloud of one place stays at 0.
    """
    found = np.array(points, dtype=np.float32)
    place = found[..., :3]
    place -= place.mean(axis=-2, keepdims=True)
    largest = np.sqrt((place**2).sum(axis=-1)).max(axis=-1)[..., None, None]
    found[..., :3] = place / np.maximum(largest, np.finfo(np.float32).tiny)
    return found


def check_finite(points: NDArray[Any], name: str) -> None:
    """Raise `DataError` where a coordinate is NaN or infinite."""
    bad = ~np.isfinite(points).all(axis=-1)
    if bad.any():
        first = int(np.flatnonzero(bad.reshape(-1))[0]) % points.shape[-2]
        raise DataError(
            f"{name}: {int(bad.sum())} of its {bad.size} points are not finite, the first is point {first}: correct or "
            "remove the file"
        )

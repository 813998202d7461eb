"""Changes of clouds in training, each a pure function of its random numbers."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnnapps.plugins.pointclouds.data_config import CloudData

PLACE = slice(0, 3)
NORMAL = slice(3, 6)


def cloud_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one cloud in one epoch."""
    return np.random.default_rng([seed, epoch, index])


def rotation(degrees: NDArray[np.float64]) -> Tensor:
    """The matrix (3, 3) that turns rows x -> x R about x, then y, then z."""
    found = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        c, s = math.cos(angle), math.sin(angle)
        a, b = [i for i in range(3) if i != axis]
        turn = torch.eye(3, dtype=torch.float64)
        turn[a, a], turn[b, b] = c, c
        turn[a, b], turn[b, a] = s, -s
        found = found @ turn
    return found


def augmented(points: Tensor, settings: CloudData, rng: np.random.Generator, normals: bool) -> Tensor:
    """A cloud (n, C) turned, stretched, moved, noisy and thinned, as the settings say; other channels stay.

    Args:
        points: as drawn.
        settings: `rotate`, `scale`, `translate`, `jitter`, `dropout`.
        rng: of the cloud and epoch.
        normals: whether the channels behind the place are normals, which turn with it.

    """
    found = points.clone()
    if any(settings.rotate):
        turn = rotation(rng.uniform(-1, 1, 3) * settings.rotate).to(found.dtype)
        found[:, PLACE] = found[:, PLACE] @ turn
        if normals:
            found[:, NORMAL] = found[:, NORMAL] @ turn
    low, high = settings.scale
    if low != high or low != 1.0:
        found[:, PLACE] *= torch.from_numpy(rng.uniform(low, high, 3)).to(found.dtype)
    if settings.translate > 0:
        found[:, PLACE] += torch.from_numpy(rng.uniform(-1, 1, 3) * settings.translate).to(found.dtype)
    if settings.jitter > 0:
        noise = rng.normal(size=(len(found), 3)).clip(-5, 5) * settings.jitter
        found[:, PLACE] += torch.from_numpy(noise).to(found.dtype)
    if settings.dropout > 0:
        gone = rng.random(len(found)) < rng.uniform(0, settings.dropout)
        found[torch.from_numpy(gone)] = found[0].clone()
    return found

"""Random changes of whole batches of images, from numbers that follow from (seed, epoch, image) alone."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def keys(seed: int, epoch: int, indices: NDArray[np.int64], draws: int) -> Hashes:
    """`draws` hashes of (seed, epoch, index) for each index, as uint64 (N, draws).

    splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014), chained over the
    parts of the key. An image thus gets the same numbers whatever batch, process or resumed run it appears in.
    """
    with np.errstate(over="ignore"):
        key = _hash(_hash(np.uint64(seed % 2**64)) + np.uint64(epoch))
        each = _hash(key + indices.astype(np.uint64))
        return _hash(each[:, None] + np.arange(1, draws + 1, dtype=np.uint64))


def _hash(x: Hashes | np.uint64) -> Hashes:
    z = np.asarray(x + _GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * _MIX[0]
    z = (z ^ (z >> np.uint64(27))) * _MIX[1]
    found: Hashes = z ^ (z >> np.uint64(31))
    return found


def uniform(seed: int, epoch: int, indices: NDArray[np.int64], draws: int) -> Numbers:
    """Numbers in [0, 1) with 53 bits from `keys`, float64 (N, draws)."""
    return (keys(seed, epoch, indices, draws) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shifted(images: Tensor, padding: int, flip: bool, numbers: Numbers) -> Tensor:
    """A random part of each image with `padding` black pixels around it, mirrored for every second one if `flip`.

    Args:
        images: uint8, (N, C, H, W).
        padding: black pixels on each side; each of the (2 padding + 1)^2 places is as likely.
        flip: whether to mirror left and right with probability 1/2.
        numbers: (N, 3) in [0, 1): row, column, mirrored.

    """
    count, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4).numpy()
    rows, columns = ((numbers[:, i] * (2 * padding + 1)).astype(np.int64) for i in (0, 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))  # type: ignore[call-overload]
    found = windows[np.arange(count), :, rows, columns]
    if flip:
        mirrored = numbers[:, 2] < 0.5
        found[mirrored] = found[mirrored][..., ::-1]
    return torch.from_numpy(found)


class Normalize:
    """uint8 images (N, C, H, W) to float32: (x / 255 - mean) / std for each channel."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = mean, std
        deviation = torch.tensor(std, dtype=torch.float64)
        self._scale = (1 / (255 * deviation)).float().reshape(1, -1, 1, 1)
        self._shift = (torch.tensor(mean, dtype=torch.float64) / deviation).float().reshape(1, -1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """The images as the network takes them."""
        return images.float().mul_(self._scale).sub_(self._shift)

    def undo(self, images: Tensor) -> Tensor:
        """Back to uint8."""
        return ((images + self._shift) / self._scale).round().clamp(0, 255).to(torch.uint8)

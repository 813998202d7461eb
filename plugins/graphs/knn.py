"""Nearest neighbours of the points of a cloud, by Euclidean or by Hamming distance."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Distance = Literal["l2", "hamming"]
_CHUNK = 1 << 22
"""So many bytes of XORs are counted at once."""


def packed_signs(x: Tensor) -> Tensor:
    """The signs of (..., C) as bits (..., ceil(C / 8)) in uint8: bit 1 for x >= 0, lowest first, the rest 0."""
    flags = (x >= 0).to(torch.uint8)
    missing = -flags.shape[-1] % 8
    if missing:
        flags = torch.cat([flags, flags.new_zeros(*flags.shape[:-1], missing)], dim=-1)
    places = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=x.device)
    return (flags.view(*flags.shape[:-1], -1, 8) * places).sum(-1, dtype=torch.uint8)


def _ones() -> Tensor:
    return torch.tensor([bin(i).count("1") for i in range(256)], dtype=torch.uint8)


def hamming(a: Tensor, b: Tensor) -> Tensor:
    """In how many signs each row of a differs from each of b: (B, N, C) and (B, M, C) to int32 (B, N, M).

    The number of ones in the XOR of the packed signs.
    """
    left, right = packed_signs(a), packed_signs(b)
    ones = _ones().to(a.device)
    found = torch.empty(*left.shape[:2], right.shape[1], dtype=torch.int32, device=a.device)
    rows = max(1, _CHUNK // max(1, right.shape[1] * right.shape[2]))
    for i in range(len(left)):
        for at in range(0, left.shape[1], rows):
            different = left[i, at : at + rows, None] ^ right[i, None]
            found[i, at : at + rows] = ones[different.int()].sum(-1, dtype=torch.int32)
    return found


def hamming_by_product(a: Tensor, b: Tensor) -> Tensor:
    """As `hamming`, from one product: (C - sign(a) . sign(b)) / 2. Exact in float32 up to C = 2^24."""
    left, right = (torch.where(t >= 0, 1.0, -1.0) for t in (a, b))
    product = left @ right.transpose(1, 2)
    return ((a.shape[-1] - product) / 2).to(torch.int32)


@torch.no_grad()
def neighbours(x: Tensor, k: int, distance: Distance) -> Tensor:
    """The k nearest points of each point of its cloud, itself among them, nearest first: (B, N, C) to (B, N, k).

    Of points at the same distance, which Hamming distances are full of, the one with the lower number comes first, so
    that the result is the same on every machine. Hamming distances are those of the signs of x.

    Raises:
        ValueError: the clouds have fewer than k points.
    """
    points = x.shape[1]
    if k > points:
        raise ValueError(f"k is {k}, but the clouds have {points} points: lower k, or take more points")
    itself = torch.eye(points, dtype=torch.bool, device=x.device)
    if distance == "l2":
        squares = x.square().sum(-1)
        apart = squares[:, :, None] - 2 * x @ x.transpose(1, 2) + squares[:, None]
        # A point is its own nearest neighbour, whatever rounding makes of it.
        apart = apart.masked_fill(itself, float("-inf"))
        return apart.topk(k, dim=-1, largest=False).indices
    # The distance and the number of a point as one number: no two are equal. It is exact in 64 bits.
    apart = hamming_by_product(x, x).long() * points + torch.arange(points, device=x.device)
    apart = apart.masked_fill(itself, -1)
    return apart.topk(k, dim=-1, largest=False).indices

"""One vector for a set of vectors: maximum, mean, and the offset that balances the signs of a maximum."""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor


def median_of_max(count: int) -> float:
    """The median of the maximum of n independent standard normal numbers: Phi^-1(0.5^(1/n)).

    The maximum of n such numbers lies below m with probability Phi(m)^n. So max(x) minus this number is as often
    negative as positive, and its sign carries a whole bit: the entropy-maximising aggregation of BiPointNet (Qin et
    al., ICLR 2021), for any n. 1 - 0.5^(1/n) is computed as -expm1(-ln 2 / n), which stays exact for large n.

    >>> [round(median_of_max(n), 4) for n in (1, 20, 64, 1024)]
    [0.0, 1.8242, 2.2991, 3.2044]

    Raises:
        ValueError: `count` is below 1.

    """
    if count < 1:
        raise ValueError(f"count is {count}: the maximum of no numbers has no median")
    return -NormalDist().inv_cdf(-math.expm1(-math.log(2) / count))


def medians_of_max(counts: Tensor) -> Tensor:
    """`median_of_max` of each count, float64; 0 where there is nothing to take the maximum of.

    Args:
        counts: whole numbers of any shape.

    """
    share = -torch.expm1(-math.log(2) / counts.to(torch.float64).clamp(min=1))
    median: Tensor = -torch.special.ndtri(share)
    return median


def aggregate(x: Tensor, kind: str, mask: Tensor | None = None) -> Tensor:
    """The maximum or the mean over the points of each set.

    Args:
        x: (..., n, C).
        kind: `max` or `mean`. The gradient of a maximum is shared evenly by all points that reach it.
        mask: boolean (..., n), true where a point counts; a set without any gives 0.

    Returns:
        (..., C).

    """
    if mask is None:
        return x.amax(dim=-2) if kind == "max" else x.mean(dim=-2)
    there = mask.unsqueeze(-1)
    if kind == "mean":
        return x.masked_fill(~there, 0.0).sum(dim=-2) / there.sum(dim=-2).clamp(min=1)
    largest = x.masked_fill(~there, -torch.inf).amax(dim=-2)
    return torch.where(there.any(dim=-2), largest, torch.zeros_like(largest))

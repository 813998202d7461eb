"""The exact threshold of a monotonic function of one float32, by trying it out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_LARGEST = 0x7F7FFFFF
"""The bits of the largest finite float32; floats are ordered as these integers are, negative ones mirrored."""


def first_high(is_high: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The smallest float32 x for which `is_high(x)` is true, for each element of `shape` by itself.

    The function must be monotonic: false up to some x, true from there on. So x >= the result gives its value for every
    x, however the function rounds inside. -inf where it is true for every finite x, +inf where it is true for none.

    Args:
        is_high: from floats of `shape` to booleans of `shape`.
        shape: one element for each function.

    """
    low = torch.full(shape, -_LARGEST, dtype=torch.int64)
    high = torch.full(shape, _LARGEST, dtype=torch.int64)
    always, never = is_high(_float(low)), ~is_high(_float(high))
    while bool((high - low > 1).any()):
        middle = torch.div(low + high, 2, rounding_mode="floor")
        found = is_high(_float(middle))
        high, low = torch.where(found, middle, high), torch.where(found, low, middle)
    result = _float(high)
    result = torch.where(always, torch.full_like(result, -torch.inf), result)
    return torch.where(never, torch.full_like(result, torch.inf), result)


def _float(key: Tensor) -> Tensor:
    """The float32 at a place of the order; 0 is the place of both zeros."""
    magnitude = key.abs().to(torch.int32).view(torch.float32)
    return torch.where(key < 0, -magnitude, magnitude)

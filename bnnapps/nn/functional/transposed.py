"""Shapes and positions of a transposed convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def swap_channels(weight: Tensor, groups: int) -> Tensor:
    """(a, b / groups, ...) -> (b, a / groups, ...), group by group; its own inverse.

    The weight of a transposed convolution, (in, out / groups, ...), becomes one filter an output channel,
    (out, in / groups, ...). A view where there is one group. The gradient goes back the same way.
    """
    grouped: Tensor = weight.unflatten(0, (groups, -1))
    return grouped.transpose(1, 2).flatten(0, 1)


def reach(
    size: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    device: torch.device,
) -> Tensor:
    """How many input positions reach each output position of a transposed convolution. Whole numbers, shape `out`.

    Input i and tap k reach output i * stride - padding + k * dilation; the count is a product over the directions.
    """
    counts = []
    for direction, geometry in enumerate(zip(size, out, kernel, stride, padding, dilation, strict=True)):
        length, outputs, taps, step, crop, spread = geometry
        at = torch.arange(length, device=device).unsqueeze(1) * step - crop
        at = (at + torch.arange(taps, device=device) * spread).flatten()
        count = torch.bincount(at[(at >= 0) & (at < outputs)], minlength=outputs)
        counts.append(count.view([-1 if d == direction else 1 for d in range(len(size))]))
    return math.prod(counts[1:], start=counts[0])

"""Products of codes with ones, from sums: what an offset adds to a binary product costs no second product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class OnesProducts(NamedTuple):
    """What a product P gives with ones as one operand.

    Attributes:
        with_weight: codes of a weight, (O, I, ...), to P(1, w), which broadcasts against the result of a sample.
        with_input: codes of an input to P(x, 1), one channel for each group.
        ones: a filter of ones for each group.

    """

    with_weight: Callable[[Tensor], Tensor]
    with_input: Callable[[Tensor], Tensor]
    ones: Tensor


def wide(codes: Tensor) -> Tensor:
    """Codes in a type that holds their sums: float32 for narrower ones."""
    return codes.float() if codes.dtype in (torch.float16, torch.bfloat16) else codes


def seen_taps(
    length: int, taps: int, stride: int, dilation: int, sides: Sequence[int]
) -> tuple[list[list[bool]], list[int]]:
    """Which taps of a convolution lie on the map, for each output position of one direction.

    Output i and tap t read position i * stride - sides[0] + t * dilation. All outputs but those at the ends see the
    same taps, so there are few different rows.

    Args:
        length: of the map.
        taps: of the kernel.
        stride: from one output to the next.
        dilation: from one tap to the next.
        sides: how many positions of zeros stand before and behind the map.

    Returns:
        the different rows, and for each output the number of its row.

    """
    outputs = (length + sum(sides) - dilation * (taps - 1) - 1) // stride + 1
    rows: list[list[bool]] = []
    where = []
    for output in range(outputs):
        first = output * stride - sides[0]
        row = [0 <= first + tap * dilation < length for tap in range(taps)]
        if row not in rows:
            rows.append(row)
        where.append(rows.index(row))
    return rows, where


def conv_of_ones(
    sums: Tensor, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], sides: Sequence[int]
) -> Tensor:
    """The convolution of a map of ones, zeros around it, with each filter: the sum of the taps that lie on the map.

    Args:
        sums: of the filters over their input channels, (O, ...); every channel is ones, so groups do not matter.
        size: of the map, without its border.
        stride: by direction.
        dilation: by direction.
        sides: zeros before and behind, of the last direction first, as `torch.nn.functional.pad` has them.

    Returns:
        (O, ...); a direction in which all outputs see the same taps has size 1.

    """
    if not all(isinstance(length, int) for length in size):  # while a graph of any length is traced
        ones = F.pad(sums.new_ones(1, 1, *size), list(sides))
        found: Tensor = _CONVOLVE[len(size)](ones, sums.unsqueeze(1), None, tuple(stride), 0, tuple(dilation))
        return found.squeeze(0)
    pairs = [sides[at : at + 2] for at in range(len(sides) - 2, -1, -2)]
    found_rows = [seen_taps(*geometry) for geometry in zip(size, sums.shape[1:], stride, dilation, pairs, strict=True)]
    for dim, (rows, _) in enumerate(found_rows, start=1):
        seen = sums.new_tensor(rows)
        sums = (sums.movedim(dim, -1).unsqueeze(-2) * seen).sum(dim=-1).movedim(-1, dim)
    for dim, (rows, where) in enumerate(found_rows, start=1):
        if len(rows) > 1:
            sums = sums.index_select(dim, torch.tensor(where, device=sums.device))
    return sums


def channel_sums(x: Tensor, groups: int, channel_dim: int) -> Tensor:
    """The sum over the channels of each group: (..., C, ...) -> (..., groups, ...)."""
    dim = channel_dim % x.dim()
    grouped: Tensor = wide(x).unflatten(dim, (groups, -1))
    return grouped.sum(dim=dim + 1)


def sums_with(weight: Tensor, constant: Tensor, groups: int) -> Tensor:
    """The sum over its input channels of each tap of each filter, each channel times a number of its own.

    With `conv_of_ones` that is the convolution of a map that is constant in each channel.

    Args:
        weight: codes, (O, C / groups, ...).
        constant: (C,).
        groups: of the convolution.

    Returns:
        (O, ...).

    """
    with torch.autocast(weight.device.type, enabled=False):
        filters = wide(weight).flatten(2).unflatten(0, (groups, -1))
        found = torch.einsum("gock,gc->gok", filters, constant.to(filters.dtype).view(groups, -1))
        return found.reshape(weight.shape[0], *weight.shape[2:])

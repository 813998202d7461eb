"""The exact integer sums of binary layers, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnnapps.export.ir.bits import Bits, pack_bits, unpack_bits, unpack_weight

Integers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Geometry:
    """Where the windows of a convolution lie.

    Attributes:
        kernel, strides, dilations: one entry per spatial dimension.
        pads: all begins, then all ends.
        group: how many groups of channels are convolved by themselves.

    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    group: int = 1

    @property
    def rank(self) -> int:
        """The number of spatial dimensions."""
        return len(self.kernel)

    @property
    def extents(self) -> tuple[int, ...]:
        """The input positions that a window spans, per spatial dimension."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def sides(self) -> list[tuple[int, int]]:
        """Begin and end of the padding, per spatial dimension."""
        return list(zip(self.pads[: self.rank], self.pads[self.rank :], strict=True))


def windows(x: npt.NDArray[Any], geometry: Geometry) -> npt.NDArray[Any]:
    """A view of the windows of a padded map: (N, C, size...) -> (N, C, out..., kernel...)."""
    rank = geometry.rank
    axes: Any = tuple(range(2, 2 + rank))  # numpy's own annotation leaves tuples out
    view = np.lib.stride_tricks.sliding_window_view(x, geometry.extents, axis=axes)
    picks: list[slice] = [slice(None)] * 2
    picks += [slice(None, None, stride) for stride in geometry.strides]
    picks += [slice(None, None, dilation) for dilation in geometry.dilations]
    seen: npt.NDArray[Any] = view[tuple(picks)]
    return seen


def conv_sums(bits: Bits, weight: Bits, channels: int, geometry: Geometry, pad_value: float, low: float) -> Integers:
    """z of a binary convolution, channels first: (N, size..., W) -> (N, O, out...).

    Args:
        bits: the packed map.
        weight: rows of bits, one per output.
        channels: C.
        geometry: of the windows.
        pad_value: what a padded position counts as.
        low: the low code of the map.

    """
    group, rank = geometry.group, geometry.rank
    maps = np.moveaxis(unpack_bits(bits, channels, low), -1, 1)
    maps = np.pad(maps, [(0, 0), (0, 0), *geometry.sides()], constant_values=int(pad_value))
    kernels = unpack_weight(weight, (weight.shape[0], channels // group, *geometry.kernel))
    seen = windows(maps, geometry)
    inner = list(range(2, 2 + rank))
    parts = []
    for maps_of, kernels_of in zip(np.split(seen, group, axis=1), np.split(kernels, group), strict=True):
        axes = ([1, *[axis + rank for axis in inner]], [1, *inner])
        parts.append(np.tensordot(maps_of.astype(np.float64), kernels_of.astype(np.float64), axes))
    return np.ascontiguousarray(np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)).astype(np.int32)


def dense_sums(bits: Bits, weight: Bits, terms: int, low: float) -> Integers:
    """z of a binary dense layer: (..., W) -> (..., O)."""
    rows = unpack_bits(bits, terms, low).astype(np.float64)
    z: Integers = (rows @ unpack_weight(weight, (weight.shape[0], terms)).T.astype(np.float64)).astype(np.int32)
    return z


def matmul_sums(a: Bits, b: Bits, terms: int, low: float) -> Integers:
    """z of the product of two packed activations: (..., M, W) and (..., N, W) -> (..., M, N); b is signed.

    Args:
        a: bits of the rows.
        b: bits of the columns.
        terms: how many there are; with unsigned a it may be 0, and every bit counts.
        low: the low code of a.

    """
    count = terms if low else 8 * a.shape[-1]
    rows, columns = unpack_bits(a, count, low).astype(np.float64), unpack_bits(b, count).astype(np.float64)
    z: Integers = (rows @ np.swapaxes(columns, -1, -2)).astype(np.int32)
    return z


def transposed_sums(
    bits: Bits, weight: Bits, channels: int, outputs: int, geometry: Geometry, output_padding: Sequence[int], low: float
) -> Integers:
    """z of a transposed binary convolution, channels first: (N, size..., W) -> (N, O, out...).

    Each input position adds its code times the kernel to the output window that starts at position * stride; `pads`
    crop the result, and `output_padding` lengthens its ends.
    """
    group, per_group = geometry.group, outputs // geometry.group
    maps = np.moveaxis(unpack_bits(bits, channels, low), -1, 1).astype(np.int32)
    kernels = unpack_weight(weight, (channels, per_group, *geometry.kernel)).astype(np.int32)
    size = maps.shape[2:]
    full = [
        (n - 1) * s + e + p for n, s, e, p in zip(size, geometry.strides, geometry.extents, output_padding, strict=True)
    ]
    out = np.zeros((maps.shape[0], outputs, *full), np.int32)
    for tap in np.ndindex(*geometry.kernel):
        places = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, geometry.dilations, size, geometry.strides, strict=True)
        )
        for g, (maps_of, kernels_of) in enumerate(
            zip(np.split(maps, group, axis=1), np.split(kernels, group), strict=True)
        ):
            place: tuple[Any, ...] = (slice(None), slice(None), *tap)
            weights = kernels_of[place]
            added = np.moveaxis(np.tensordot(maps_of, weights, ([1], [0])), -1, 1)
            where: tuple[Any, ...] = (slice(None), slice(g * per_group, (g + 1) * per_group), *places)
            out[where] += added
    crop = [slice(begin, n - end) for n, (begin, end) in zip(full, geometry.sides(), strict=True)]
    return np.ascontiguousarray(out[(slice(None), slice(None), *crop)])


def pooled_bits(bits: Bits, channels: int, geometry: Geometry) -> Bits:
    """The OR over each window: (N, size..., W) -> (N, out..., W); what padding adds is low."""
    maps = np.moveaxis(unpack_bits(bits, channels, 0.0), -1, 1)
    maps = np.pad(maps, [(0, 0), (0, 0), *geometry.sides()])
    largest = windows(maps, geometry).max(axis=tuple(range(-geometry.rank, 0)))
    return pack_bits(np.moveaxis(largest, 1, -1) > 0)

"""What the hardware computes, in numpy: the golden model that every simulation is held against."""

from __future__ import annotations

import numpy as np

from bnnapps.export.fpga.layers import Array, Conv, Dense, Head, Integers, Network, Pool
from bnnapps.export.ir.sums import Geometry, windows


def sums(network: Network, codes: Array) -> Integers:
    """The sums of the last layer.

    Args:
        network: the hardware form.
        codes: (N, channels, height, width) or (N, features), -1 and +1 or 8-bit codes.

    Returns:
        (N, classes).

    """
    x = np.asarray(codes, np.int64)
    for layer in network.layers:
        x = _layer(layer, x)
    return x


def classes(head: Head, z: Integers) -> Integers:
    """The class of each row of sums: (N, classes) -> (N,)."""
    found: Integers = np.argmax(scores(head, z), axis=1).astype(np.int64)
    return found


def scores(head: Head, z: Integers) -> Integers:
    """What the classes are compared by."""
    if head.ranks is None:
        return z
    found: Integers = head.ranks[np.arange(head.classes), (z + head.terms) // 2]
    return found


def streamed(x: Array) -> Array:
    """A map (N, C, H, W), or rows (N, K), in the order in which the hardware takes it: (N, H * W * C)."""
    moved = np.moveaxis(x, 1, -1) if x.ndim == 4 else x
    return np.ascontiguousarray(moved).reshape(len(x), -1)


def _layer(layer: Dense | Conv | Pool, x: Integers) -> Integers:
    if isinstance(layer, Pool):
        shape = Geometry(layer.window, layer.window, (1, 1), (0, 0, 0, 0))
        return np.asarray(windows(x, shape).max(axis=(-2, -1)), np.int64)
    if isinstance(layer, Dense):
        z = _product(streamed(x), layer.weight.T)
        return z if layer.threshold is None else _bits(z, layer.threshold)
    top, left, bottom, right = layer.pads
    padded = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)], constant_values=layer.pad_value)
    seen = windows(padded, Geometry(layer.kernel, layer.stride, (1, 1), (0, 0, 0, 0)))
    rows = np.moveaxis(seen, 1, -1).reshape(len(x), *layer.out_size, -1)
    return np.moveaxis(_bits(_product(rows, layer.weight.reshape(layer.outputs, -1).T), layer.threshold), -1, 1)


def _product(x: Array, w: Array) -> Integers:
    """Exact: every partial sum is an integer below 2^53."""
    return (x.astype(np.float64) @ w.astype(np.float64)).astype(np.int64)


def _bits(z: Integers, threshold: Integers) -> Integers:
    return np.where(z >= threshold, 1, -1).astype(np.int64)

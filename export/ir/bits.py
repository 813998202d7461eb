"""Bits of activations and of weights, in numpy: the golden definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]

WORD = 4
"""Bytes of a word; packed activations have whole words."""


def words(channels: int) -> int:
    """Words for that many channels: ceil(channels / 32)."""
    return -(-channels // (8 * WORD))


def pack_bits(high: npt.NDArray[np.bool_]) -> Bits:
    """Booleans of shape (..., C) as bits of shape (..., 4 * ceil(C / 32)), the first channel in the lowest bit."""
    packed = np.packbits(high, axis=-1, bitorder="little")
    missing = words(high.shape[-1]) * WORD - packed.shape[-1]
    return np.pad(packed, [(0, 0)] * (packed.ndim - 1) + [(0, missing)])


def unpack_bits(bits: Bits, channels: int, low: float = -1.0) -> Codes:
    """The codes of packed activations: shape (..., W) -> (..., channels), 1 or `low`."""
    high = np.unpackbits(bits, axis=-1, bitorder="little", count=channels)
    return np.where(high == 1, 1, int(low)).astype(np.int8)


def pack(x: Floats, threshold: Floats, axis: int) -> Bits:
    """The bits x >= threshold, packed along `axis`, which moves to the end; `threshold` has 1 or C elements."""
    return pack_bits(np.moveaxis(x, axis, -1) >= threshold.reshape(-1))


def unpack(bits: Bits, axis: int, channels: int, low: float = -1.0) -> Floats:
    """The codes as floats; the channels move to `axis`."""
    return np.ascontiguousarray(np.moveaxis(unpack_bits(bits, channels, low), -1, axis)).astype(np.float32)


def pack_weight(codes: npt.NDArray[Any]) -> Bits:
    """Weight codes of shape (O, ...) as rows of bits, shape (O, ceil(K / 8)); -1 becomes 0."""
    return np.packbits(codes.reshape(codes.shape[0], -1) > 0, axis=-1, bitorder="little")


def unpack_weight(bits: Bits, shape: tuple[int, ...]) -> Codes:
    """The inverse of `pack_weight`; `shape` is (O, ...)."""
    terms = int(np.prod(shape[1:], dtype=np.int64))
    high = np.unpackbits(bits, axis=-1, bitorder="little", count=terms)
    return np.where(high == 1, 1, -1).astype(np.int8).reshape(shape)

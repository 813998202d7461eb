"""What becomes of the sums, in numpy: floats with every step rounded to float32 by itself, or bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnnapps.export.ir.bits import Bits, Floats, pack_bits
from bnnapps.export.ir.sums import Integers


@dataclass(frozen=True)
class Epilogue:
    """The steps of `BinaryConvFloat` and its kin; each has 1 or O elements, `residual` is like the output."""

    scale: Floats
    bias: Floats
    residual: Floats
    before: Floats
    slope: Floats
    after: Floats


def float_output(z: Integers, steps: Epilogue, channel_axis: int) -> Floats:
    """v = z * scale + bias + residual + before, times slope where it is negative, + after."""

    def spread(values: Floats) -> Floats:
        shape = [1] * z.ndim
        shape[channel_axis] = -1
        return values.reshape(shape)

    v = z.astype(np.float32) * spread(steps.scale)
    v = v + spread(steps.bias)
    v = v + (steps.residual if steps.residual.size > 1 else steps.residual.reshape(()))
    v = v + spread(steps.before)
    v = np.where(v < 0, v * spread(steps.slope), v)
    return np.asarray(v + spread(steps.after), np.float32)


def bits_output(z: Integers, threshold: Integers, channel_axis: int) -> Bits:
    """The bits z >= threshold, packed along the channels, which move to the end."""
    return pack_bits(np.moveaxis(z, channel_axis, -1) >= threshold)


def next_bits(v: Floats, threshold: Floats, channel_axis: int) -> Bits:
    """The bits v >= threshold, packed along the channels, which move to the end."""
    return pack_bits(np.moveaxis(v, channel_axis, -1) >= threshold)

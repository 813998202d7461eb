"""The operators of docs/runtime.md again, by torch's float64 convolutions and numpy: slow, and written for clarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Array = np.ndarray[Any, Any]
CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def bits_last(high: Array) -> Array:
    """Booleans [..., C] as uint8 [..., 4 * ceil(C / 32)]."""
    missing = -high.shape[-1] % 32
    whole = np.pad(high, [(0, 0)] * (high.ndim - 1) + [(0, missing)])
    return np.packbits(whole, axis=-1, bitorder="little")


def bits_of_map(high: Array) -> Array:
    """Booleans [N, C, size...] as packed bits [N, size..., W]."""
    return bits_last(np.moveaxis(high, 1, -1))


def weight_bits(high: Array) -> Array:
    """Booleans [O, ...] as one row of bits per output."""
    return np.packbits(high.reshape(high.shape[0], -1), axis=-1, bitorder="little")


def codes(high: Array, low: float) -> Array:
    return np.where(high, 1.0, low)


def padded(values: Array, pads: list[int], value: float) -> Array:
    """[N, C, size...] with `pads` (all begins, all ends) around its spatial axes."""
    rank = len(pads) // 2
    return np.pad(values, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=value)


def conv(x: Array, w: Array, low: float, a: dict[str, Any]) -> Array:
    """The sums of a convolution of x [N, C, size...] with w [O, C / g, kernel...], both booleans."""
    spread = torch.from_numpy(padded(codes(x, low), a["pads"], a["pad_value"]))
    rank = len(a["pads"]) // 2
    z = CONVS[rank](
        spread,
        torch.from_numpy(codes(w, -1.0)),
        stride=a["strides"],
        dilation=a["dilations"],
        groups=a["group"],
    )
    return z.numpy().astype(np.int32)


def transposed(x: Array, w: Array, low: float, a: dict[str, Any]) -> Array:
    """The sums of a transposed convolution with w [C, O / g, kernel...]: everything, then cropped by the pads."""
    rank = len(a["pads"]) // 2
    z = TRANSPOSED[rank](
        torch.from_numpy(codes(x, low)),
        torch.from_numpy(codes(w, -1.0)),
        stride=a["strides"],
        dilation=a["dilations"],
        groups=a["group"],
    ).numpy()
    z = np.pad(z, [(0, 0), (0, 0), *((0, more) for more in a["output_padding"])])
    crop = tuple(
        slice(begin, size - end)
        for size, begin, end in zip(z.shape[2:], a["pads"][:rank], a["pads"][rank:], strict=True)
    )
    return z[(slice(None), slice(None), *crop)].astype(np.int32)


def max_pool(x: Array, a: dict[str, Any]) -> Array:
    """The OR of each window of x [N, C, size...]."""
    rank = len(a["pads"]) // 2
    spread = padded(x, a["pads"], False)
    reach = [d * (k - 1) + 1 for k, d in zip(a["kernel_shape"], a["dilations"], strict=True)]
    axes = tuple(range(2, 2 + rank))
    windows = np.lib.stride_tricks.sliding_window_view(spread, reach, axis=axes)
    windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in a["strides"]))]
    taps = windows[(..., *(slice(None, None, d) for d in a["dilations"]))]
    return taps.any(axis=tuple(range(-rank, 0)))


def epilogue(z: Array, steps: dict[str, Array], axis: int) -> Array:
    """The float epilogue on z with its outputs at `axis`, each step rounded to float32."""

    def along(name: str) -> Array:
        shape = [1] * z.ndim
        shape[axis] = -1
        return steps[name].reshape(shape)

    v = z.astype(np.float32) * along("scale")
    v = v + along("bias")
    v = v + steps["residual"]
    v = v + along("before")
    v = np.where(v < 0, v * along("slope"), v)
    return v + along("after")

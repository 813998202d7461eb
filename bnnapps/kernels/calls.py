"""Calling the kernels with tensors. Float32 on a CPU everywhere; nothing here knows autograd."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from bnnapps.kernels import structures as c
from bnnapps.kernels.library import check, load_library
from bnnapps.kernels.threads import pool

WORD = 32
"""Bits of a word of packed activations."""


class Geometry(NamedTuple):
    """What a convolution is, but for its weight: every entry has one number for each spatial dimension."""

    channels: int
    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    pad_value: int
    unsigned: bool

    def output(self, size: Sequence[int]) -> list[int]:
        """The spatial size of the result."""
        found = []
        for d, length in enumerate(size):
            reach = self.dilation[d] * (self.kernel[d] - 1) + 1
            found.append((length + self.begin[d] + self.end[d] - reach) // self.stride[d] + 1)
        return found


def pack(x: Tensor, threshold: Tensor) -> Tensor:
    """The bits x >= threshold, int32 words [N, size..., ceil(C / 32)], of a map (N, C, size...) or of rows (N, C).

    The threshold has one element, or C.
    """
    channels = x.shape[1]
    bits = x.new_empty((x.shape[0], *x.shape[2:], -(-channels // WORD)), dtype=torch.int32)
    if is_channels_last(x):
        outer, inner = x.numel() // max(channels, 1), 1
    else:
        x = x.contiguous()
        outer, inner = x.shape[0], x[0, 0].numel() if x.numel() else 0
    threshold = threshold.contiguous()
    check(
        load_library().bnn_pack(
            x.data_ptr(), outer, channels, inner, threshold.data_ptr(), threshold.numel(), bits.data_ptr(), pool()
        )
    )
    return bits


def unpack(bits: Tensor, channels: int, low: float, channels_last: bool) -> Tensor:
    """The inverse of `pack`: 1 where a bit is set, else `low`."""
    size = bits.shape[1:-1]
    x = empty_map((bits.shape[0], channels, *size), channels_last)
    outer, inner = (bits.shape[0], size.numel()) if x.is_contiguous() else (bits.shape[0] * size.numel(), 1)
    check(load_library().bnn_unpack(bits.data_ptr(), outer, channels, inner, low, x.data_ptr(), pool()))
    return x


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a map lie last in memory, and not first."""
    if x.dim() not in _LAST or x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=_LAST[x.dim()])


_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def empty_map(shape: Sequence[int], channels_last: bool) -> Tensor:
    """An uninitialized float map, its channels first or last in memory."""
    return torch.empty(shape, memory_format=_LAST[len(shape)] if channels_last else torch.contiguous_format)


class _Layer:
    """A layer of the library, destroyed with this object."""

    def __init__(self, kind: str, *arguments: Any) -> None:
        self.kind = kind
        self.handle = ctypes.c_void_p()
        check(getattr(load_library(), f"bnn_{kind}_create")(*arguments, ctypes.byref(self.handle)))

    def __del__(self) -> None:
        if self.handle:
            getattr(load_library(), f"bnn_{self.kind}_destroy")(self.handle)


_kept: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""By packed weight: its layer, while that tensor lives. For weights that do not change."""


def _layer(weight: Tensor, description: tuple[Any, ...], keep: bool) -> _Layer:
    found: tuple[Any, _Layer] | None = _kept.get(weight) if keep else None
    if found is None or found[0] != description:
        kind, *arguments = description
        if kind == "conv":
            shape = _conv_shape(arguments[0], weight.shape[0])
            made = _Layer(kind, ctypes.byref(shape), weight.data_ptr(), weight.numel())
        else:
            terms, unsigned = arguments
            codes = c.UNSIGNED if unsigned else c.SIGNED
            made = _Layer(kind, terms, weight.shape[0], codes, weight.data_ptr(), weight.numel())
        found = (description, made)
        if keep:
            _kept[weight] = found
    return found[1]


def _conv_shape(geometry: Geometry, outputs: int) -> c.ConvShape:
    def sizes(values: tuple[int, ...], filling: int) -> Any:
        return c.Sizes(*values, *[filling] * (3 - len(values)))

    g = geometry
    fields = (sizes(g.kernel, 1), sizes(g.stride, 1), sizes(g.dilation, 1), sizes(g.begin, 0), sizes(g.end, 0))
    codes = c.UNSIGNED if g.unsigned else c.SIGNED
    return c.ConvShape(len(g.kernel), g.channels, outputs, g.groups, *fields, g.pad_value, codes)


def conv(
    bits: Tensor,
    weight: Tensor,
    geometry: Geometry,
    scale: Tensor | None,
    bias: Tensor | None,
    channels_last: bool,
    keep: bool,
) -> Tensor:
    """sums * scale + bias, (N, O, size...), of packed activations and a packed weight; `keep`s its layer."""
    size = bits.shape[1:-1]
    y = empty_map((bits.shape[0], weight.shape[0], *geometry.output(size)), channels_last)
    epilogue, _owner = _epilogue(y, scale, bias, channels_last)
    layer = _layer(weight, ("conv", geometry), keep)
    extent = c.Sizes(*size)
    check(
        load_library().bnn_conv_run(
            layer.handle, bits.data_ptr(), bits.shape[0], extent, ctypes.byref(epilogue), pool()
        )
    )
    return y


def dense(
    bits: Tensor, weight: Tensor, terms: int, unsigned: bool, scale: Tensor | None, bias: Tensor | None, keep: bool
) -> Tensor:
    """sums * scale + bias, (N, O), of packed rows and a packed weight; `keep`s its layer."""
    y = torch.empty(bits.shape[0], weight.shape[0])
    epilogue, _owner = _epilogue(y, scale, bias, True)
    layer = _layer(weight, ("dense", terms, unsigned), keep)
    check(load_library().bnn_dense_run(layer.handle, bits.data_ptr(), bits.shape[0], ctypes.byref(epilogue), pool()))
    return y


def _epilogue(y: Tensor, scale: Tensor | None, bias: Tensor | None, channels_last: bool) -> tuple[c.Epilogue, Any]:
    """What becomes of the sums, and what has to live as long."""
    found = c.Epilogue()
    found.output, found.layout = c.FLOAT32, c.CHANNELS_LAST if channels_last else c.CHANNELS_FIRST
    found.y = y.data_ptr()
    scale, bias = (None if t is None else t.contiguous() for t in (scale, bias))
    if scale is not None:
        found.scale, found.scales = scale.data_ptr(), scale.numel()
    if bias is not None:
        found.bias, found.biases = bias.data_ptr(), bias.numel()
    return found, (scale, bias)

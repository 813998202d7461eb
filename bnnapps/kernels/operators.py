"""The kernels as operators of PyTorch: `torch.ops.bnnapps.pack`, `unpack`, `conv` and `dense`.

They have shapes for tracing and no gradients of their own: `bnnapps.nn.functional.on_bits` has those.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bnnapps.kernels import calls
from bnnapps.kernels.calls import WORD, Geometry

_library = torch.library.Library("bnnapps", "DEF")
_library.define("pack(Tensor x, Tensor threshold) -> Tensor")
_library.define("unpack(Tensor bits, int channels, float low, bool channels_last) -> Tensor")
_library.define(
    "conv(Tensor bits, Tensor weight, int channels, int groups, int[] kernel, int[] stride, int[] dilation, "
    "int[] begin, int[] end, int pad_value, bool unsigned, Tensor? scale, Tensor? bias, bool channels_last, bool keep)"
    " -> Tensor"
)
_library.define(
    "dense(Tensor bits, Tensor weight, int terms, bool unsigned, Tensor? scale, Tensor? bias, bool keep) -> Tensor"
)


def _conv(
    bits: Tensor,
    weight: Tensor,
    channels: int,
    groups: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    begin: Sequence[int],
    end: Sequence[int],
    pad_value: int,
    unsigned: bool,
    scale: Tensor | None,
    bias: Tensor | None,
    channels_last: bool,
    keep: bool,
) -> Tensor:
    sizes = tuple(kernel), tuple(stride), tuple(dilation), tuple(begin), tuple(end)
    geometry = Geometry(channels, groups, *sizes, pad_value, unsigned)
    return calls.conv(bits, weight, geometry, scale, bias, channels_last, keep)


_library.impl("pack", calls.pack, "CPU")
_library.impl("unpack", calls.unpack, "CPU")
_library.impl("conv", _conv, "CPU")
_library.impl("dense", calls.dense, "CPU")


def _pack_shape(x: Tensor, threshold: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], *x.shape[2:], -(-x.shape[1] // WORD)), dtype=torch.int32)


def _unpack_shape(bits: Tensor, channels: int, low: float, channels_last: bool) -> Tensor:
    return _map(bits, (bits.shape[0], channels, *bits.shape[1:-1]), channels_last)


def _conv_output(
    bits: Tensor,
    weight: Tensor,
    channels: int,
    groups: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    begin: Sequence[int],
    end: Sequence[int],
    pad_value: int,
    unsigned: bool,
    scale: Tensor | None,
    bias: Tensor | None,
    channels_last: bool,
    keep: bool,
) -> Tensor:
    sizes = tuple(kernel), tuple(stride), tuple(dilation), tuple(begin), tuple(end)
    output = Geometry(channels, groups, *sizes, pad_value, unsigned).output(bits.shape[1:-1])
    return _map(bits, (bits.shape[0], weight.shape[0], *output), channels_last)


def _dense_output(
    bits: Tensor, weight: Tensor, terms: int, unsigned: bool, scale: Tensor | None, bias: Tensor | None, keep: bool
) -> Tensor:
    return bits.new_empty((bits.shape[0], weight.shape[0]), dtype=torch.float32)


def _map(like: Tensor, shape: tuple[int, ...], channels_last: bool) -> Tensor:
    return calls.empty_map(shape, channels_last).to(like.device)


torch.library.register_fake("bnnapps::pack", _pack_shape, lib=_library)
torch.library.register_fake("bnnapps::unpack", _unpack_shape, lib=_library)
torch.library.register_fake("bnnapps::conv", _conv_output, lib=_library)
torch.library.register_fake("bnnapps::dense", _dense_output, lib=_library)

"""Convolutions and linear layers of codes, computed on bits; for the backward pass bits are kept too.

An operand comes as what its codes were made from: they are high where `source >= threshold`. Its `codes` receive the
gradient and are not read, so they need not hold values (`carrier`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.kernels import operators as operators
from bnnapps.kernels.calls import WORD, Geometry, empty_map, is_channels_last
from bnnapps.nn.functional.autograd import call


class Compared(NamedTuple):
    """An operand of one bit: high (+1) where source >= threshold, else low (0 if unsigned, else -1).

    Attributes:
        codes: what receives the gradient.
        source: the same shape, float32.
        threshold: one, or one for each channel (dimension 1 of a map, the last one of rows).
        unsigned: whether low is 0.

    """

    codes: Tensor
    source: Tensor
    threshold: Tensor
    unsigned: bool


def carrier(x: Tensor) -> Tensor:
    """A tensor of the shape of x that holds nothing: the codes of a sign estimator whose values nobody reads."""
    return torch.empty_strided(x.shape, (0,) * x.dim(), dtype=x.dtype, device=x.device)


def _whole_bytes(words: Tensor, count: int) -> Tensor:
    """Packed bits with no more bytes for each row than `count` bits take."""
    size = -(-count // 8)
    found = words.view(torch.uint8)
    return found if found.shape[-1] == size else found[..., :size].contiguous()


def _whole_words(bits: Tensor) -> Tensor:
    """The inverse of `_whole_bytes`."""
    filler = -bits.shape[-1] % (WORD // 8)
    return (F.pad(bits, (0, filler)) if filler else bits).view(torch.int32)


def pack_filters(w: Tensor) -> Tensor:
    """Signs of a weight as they are stored: uint8, one row of whole bytes for each entry of dimension 0."""
    rows = w.detach().reshape(w.shape[0], -1)
    return _whole_bytes(torch.ops.bnnapps.pack(rows, rows.new_zeros(1)), rows.shape[1])


def unpack_filters(bits: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `pack_filters`, as floats."""
    rows: Tensor = torch.ops.bnnapps.unpack(_whole_words(bits), shape[1:].numel(), -1.0, False)
    return rows.view(shape)


def bits_of(x: Compared) -> Tensor:
    """The packed operand (`bnnapps.kernels`)."""
    result: Tensor = torch.ops.bnnapps.pack(x.source.detach(), x.threshold)
    return result


def conv_of_bits(
    x: Compared, weight: Tensor, geometry: Geometry, scale: Tensor | None, bias: Tensor | None, last: bool, keep: bool
) -> Tensor:
    """scale * conv(codes, weight) + bias for a packed weight. No gradient; `keep`: the weight will not change."""
    return _conv(bits_of(x), weight, geometry, scale, bias, last, keep)


def _conv(
    bits: Tensor,
    weight: Tensor,
    geometry: Geometry,
    scale: Tensor | None,
    bias: Tensor | None,
    last: bool,
    keep: bool = False,
) -> Tensor:
    scale = None if scale is None else scale.reshape(-1)
    result: Tensor = torch.ops.bnnapps.conv(bits, weight, *geometry, scale, bias, last, keep)
    return result


def linear_of_bits(x: Compared, weight: Tensor, scale: Tensor | None, bias: Tensor | None, keep: bool) -> Tensor:
    """scale * (codes @ weight^T) + bias for rows (N, in) and a packed weight. No gradient; `keep` as above."""
    result: Tensor = torch.ops.bnnapps.dense(bits_of(x), weight, x.source.shape[1], x.unsigned, scale, bias, keep)
    return result


class _Conv(torch.autograd.Function):
    """The gradients are those of a float convolution of the codes, with the border that `F.conv` has."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        source: Tensor,
        threshold: Tensor,
        scale: Tensor | None,
        geometry: Geometry,
    ) -> Tensor:
        bits, weight = torch.ops.bnnapps.pack(source, threshold), pack_filters(w)
        in_last, out_last = is_channels_last(source), is_channels_last(source) or is_channels_last(w)
        result = _conv(bits, weight, geometry, scale, None, out_last)
        # Each gradient needs the other operand; a frozen one asks for nothing.
        x_kept = _whole_bytes(bits, source.shape[1]) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(x_kept, weight if ctx.needs_input_grad[0] else None, scale)
        ctx.geometry, ctx.in_last, ctx.w_last = geometry, in_last, is_channels_last(w)
        ctx.shapes = source.shape, w.shape
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        bits, weight, scale = ctx.saved_tensors
        geometry, (x_shape, w_shape) = ctx.geometry, ctx.shapes
        grad = grads[0] if scale is None else grads[0] * scale.view(-1, *[1] * len(geometry.kernel))
        if bits is None:  # its values are not read
            x = empty_map(x_shape, ctx.in_last)
        else:
            low = 0.0 if geometry.unsigned else -1.0
            x = torch.ops.bnnapps.unpack(_whole_words(bits), geometry.channels, low, ctx.in_last)
        w = grad.new_empty(w_shape) if weight is None else unpack_filters(weight, w_shape)
        if ctx.w_last:
            w = empty_map(w_shape, True).copy_(w)
        inside = geometry.pad_value != 0 or geometry.begin != geometry.end
        if inside:
            border = [n for pair in zip(reversed(geometry.begin), reversed(geometry.end), strict=True) for n in pair]
            x = F.pad(x, border, value=float(geometry.pad_value))
        none = [0] * len(geometry.kernel)
        x_grad, w_grad, _ = torch.ops.aten.convolution_backward(
            grad,
            x,
            w,
            None,
            geometry.stride,
            none if inside else geometry.begin,
            geometry.dilation,
            False,
            none,
            geometry.groups,
            [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False],
        )
        if inside and x_grad is not None:
            x_grad = F.pad(x_grad, [-n for n in border])
        return x_grad, w_grad, None, None, None, None


def conv_codes(x: Compared, w: Tensor, scale: Tensor | None, geometry: Geometry) -> Tensor:
    """scale * conv(codes of x, w), for a weight w of +1 and -1; keeps one bit an element of either.

    The scale is a constant that broadcasts to the result: one, or one for each output.
    """
    return call(_Conv, x.codes, w, x.source.detach(), x.threshold, scale, geometry)


class _Linear(torch.autograd.Function):
    """As `bnnapps.nn.functional.linear` has it, gradients included."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        source: Tensor,
        threshold: Tensor,
        scale: Tensor | None,
        bias: Tensor | None,
        unsigned: bool,
    ) -> Tensor:
        bits, weight = torch.ops.bnnapps.pack(source, threshold), pack_filters(w)
        result: Tensor = torch.ops.bnnapps.dense(bits, weight, w.shape[1], unsigned, scale, bias, False)
        x_kept = _whole_bytes(bits, source.shape[1]) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(x_kept, weight if ctx.needs_input_grad[0] else None, scale)
        ctx.unsigned, ctx.w_shape = unsigned, w.shape
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        bits, weight, scale = ctx.saved_tensors
        grad = grads[0]
        x_grad = w_grad = bias_grad = None
        if ctx.needs_input_grad[0]:
            w = unpack_filters(weight, ctx.w_shape)
            x_grad = grad @ (w if scale is None else w.mul_(scale.view(-1, 1)))
        if ctx.needs_input_grad[1]:
            low = 0.0 if ctx.unsigned else -1.0
            w_grad = grad.t() @ torch.ops.bnnapps.unpack(_whole_words(bits), ctx.w_shape[1], low, False)
            if scale is not None:
                w_grad.mul_(scale.view(-1, 1))
        if ctx.needs_input_grad[5]:
            bias_grad = grad.sum(dim=0)
        return x_grad, w_grad, None, None, None, bias_grad, None


def linear_codes(x: Compared, w: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """scale * (codes of x @ w^T) + bias for rows (N, in) and a weight of +1 and -1; keeps one bit an element.

    Args:
        x: the rows.
        w: (out, in).
        scale: (out,) or (1,), a constant; `None` is 1.
        bias: (out,).

    """
    return call(_Linear, x.codes, w, x.source.detach(), x.threshold, scale, bias, x.unsigned)

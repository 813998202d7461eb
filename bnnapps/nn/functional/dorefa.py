"""Levels of [0, 1] and gradients of few bits (DoReFa-Net, Zhou et al., 2016)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnnapps.nn.functional.autograd import call
from bnnapps.nn.functional.bits import pack_bits, unpack


class _Levels(torch.autograd.Function):
    """Keeps one bit an element: whether 0 <= x <= 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: int) -> Tensor:
        ctx.levels = levels
        ctx.inside = pack_bits((x >= 0) & (x <= 1))
        ctx.dtype = x.dtype
        return _levels(x, levels)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return unpack(ctx.inside).to(grads[0].dtype).mul_(grads[0]).mul_(ctx.levels), None


def _levels(x: Tensor, levels: int) -> Tensor:
    if levels == 1:
        return (x >= 0.5).to(x.dtype)  # one comparison: x + 1/2 would round a number just under 1/2 up
    return torch.floor(x.clamp(0, 1) * levels + 0.5)


def unit_levels(x: Tensor, bits: int) -> Tensor:
    """Codes 0 .. L = 2^bits - 1: floor(L clip(x, 0, 1) + 1/2), to be multiplied by 1 / L. For one bit 1{x >= 1/2}.

    dL/dx = L 1{0 <= x <= 1} dL/dcode, so that code / L passes its gradient unchanged inside the interval.
    """
    levels = 2**bits - 1
    if not (torch.is_grad_enabled() and x.requires_grad):
        return _levels(x, levels)
    return call(_Levels, x, levels)


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int) -> Tensor:
        ctx.bits = bits
        return x.view_as(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return quantized_gradient(grads[0], ctx.bits), None


def quantized_gradient(grad: Tensor, bits: int) -> Tensor:
    """`grad` rounded to `bits` bits with uniform noise, for each sample (dimension 0) by its own maximum m.

    2 m (q(g / (2 m) + 1/2 + u / L) - 1/2) with L = 2^bits - 1, q(r) = floor(L clip(r, 0, 1) + 1/2) / L and u uniform in
    [-1/2, 1/2), drawn from PyTorch's generator. A sample whose gradient is zero stays zero.
    """
    levels = 2**bits - 1
    dims = tuple(range(1, grad.dim()))
    largest = grad.abs().amax(dim=dims, keepdim=True) if dims else grad.abs()
    noise = (torch.rand_like(grad) - 0.5) / levels
    unit = grad / (2 * largest.clamp(min=torch.finfo(grad.dtype).tiny)) + 0.5 + noise
    rounded = (_levels(unit, levels) / levels - 0.5) * 2 * largest
    return torch.where(largest > 0, rounded, grad)


def quantize_gradient(x: Tensor, bits: int) -> Tensor:
    """x; its gradient is rounded to `bits` bits (`quantized_gradient`); 32 bits leave it as it is."""
    if bits == 32 or not (torch.is_grad_enabled() and x.requires_grad):
        return x
    return call(_Gradient, x, bits)

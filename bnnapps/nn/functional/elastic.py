"""Quantizers with a learned scale: elastic binarization of BiT, and the learned step size that it grew from.

BiT: Robustly Binarized Multi-distilled Transformer, Liu et al., 2022. LSQ: Learned Step Size Quantization, Esser
et al., 2020. PACT: Parameterized Clipping Activation, Choi et al., 2018.

A quantizer here returns its codes. What a network multiplies is alpha * code, with alpha applied after the product
(so that the product of codes is exact) and taken as a constant there: the gradient of alpha, like that of x, comes
through the codes. With G the gradient of alpha * code, the codes receive alpha G; each function divides by alpha.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bnnapps.nn.functional.autograd import call
from bnnapps.nn.functional.bits import pack_bits, pack_signs, unpack
from bnnapps.nn.functional.sign import sign

SMALLEST_SCALE = 1e-5


class _ElasticSign(torch.autograd.Function):
    """Keeps two bits an element: the sign, and whether |x| <= alpha."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        signs = sign(x)
        ctx.save_for_backward(alpha)
        ctx.signs = pack_signs(signs)
        ctx.inside = pack_bits(x.detach().abs().le_(alpha.detach()))
        return signs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (alpha,) = ctx.saved_tensors
        (grad,) = grads
        d_alpha = _inner(unpack(ctx.signs), grad) / alpha / math.sqrt(grad.numel())
        return unpack(ctx.inside).mul_(grad).div_(alpha), d_alpha.view(1)


def _inner(own: Tensor, grad: Tensor) -> Tensor:
    """sum(own * grad); `own` may be overwritten."""
    long = grad.dtype in (torch.float32, torch.float64)
    if long and own.is_contiguous() and grad.is_contiguous():
        return torch.dot(own.view(-1), grad.view(-1))  # one pass; in shorter types its sum would be too
    return own.mul_(grad).sum()


def elastic_sign(x: Tensor, alpha: Tensor) -> Tensor:
    """Codes of alpha * sign(x), with a learned scale (BiT, 2022).

    With G the gradient of alpha * sign(x): dL/dx = 1{|x| <= alpha} G, dL/dalpha = sum(sign(x) G) / sqrt(numel).

    Args:
        x: any shape.
        alpha: shape (1,), positive.

    """
    if not torch.is_grad_enabled():
        return sign(x)
    return call(_ElasticSign, x, alpha)


class _LearnedStep(torch.autograd.Function):
    """Keeps x: inside the range the gradient of alpha needs it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x, alpha)
        ctx.bounds = low, high
        return _step_codes(x, alpha, low, high)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, alpha = ctx.saved_tensors
        (grad,) = grads
        low, high = ctx.bounds
        ratio = x / alpha
        clipped = ratio.clamp(low, high)
        # A comparison that writes floats, and a product with them: masks of booleans are several times slower on a CPU.
        inside = torch.eq(clipped, ratio, out=ratio)
        # Inside the range the code minus the ratio, outside it (infinity too) the bound that was hit.
        slope = (clipped + 0.5).floor_().sub_(clipped.mul_(inside))
        d_alpha = _inner(slope, grad) / alpha / math.sqrt(grad.numel() * max(high, 1))
        return inside.mul_(grad).div_(alpha), d_alpha.view(1), None, None


def _step_codes(x: Tensor, alpha: Tensor, low: int, high: int) -> Tensor:
    return (x.detach() / alpha.detach()).add_(0.5).floor_().clamp_(low, high)


def learned_step(x: Tensor, alpha: Tensor, low: int, high: int) -> Tensor:
    """Codes clip(floor(x / alpha + 1/2), low, high), with a learned step (LSQ, 2020; unsigned elastic, BiT, 2022).

    Halves round up, so that one bit means 1{x >= alpha / 2}, in keeping with sign(0) = +1.

    With G the gradient of alpha * code: dL/dx = 1{low <= x / alpha <= high} G; dL/dalpha = sum(s G) / sqrt(numel *
    max(high, 1)), where s is the code minus x / alpha inside the range, and the bound that was hit outside.

    Args:
        x: any shape.
        alpha: shape (1,), positive.
        low: 0 (unsigned) or -2^(b-1).
        high: 2^b - 1 (unsigned; 1 for one bit) or 2^(b-1) - 1.

    """
    if not torch.is_grad_enabled():
        return _step_codes(x, alpha, low, high)
    return call(_LearnedStep, x, alpha, low, high)


def initial_scale(x: Tensor, low: int, high: int) -> Tensor:
    """The data-dependent start of `alpha`: 2 mean|x| / sqrt(high) if signed, 4 mean|x| / sqrt(high) if not.

    One bit counts as high = 1 in both cases. Shape (1,), never under 1e-5 (BiT's released code).
    """
    factor = 4.0 if low == 0 else 2.0
    return (factor * x.detach().abs().mean().float() / math.sqrt(max(high, 1))).clamp(min=SMALLEST_SCALE).view(1)


def clipped_uniform(x: Tensor, low: Tensor, high: Tensor, bits: int, unsigned: bool) -> Tensor:
    """Uniform quantization between the observed bounds of clip(x, low, high), the 8-bit quantizer of BinaryBERT.

    Signed: the step is max|c| / (2^(b-1) - 1) around zero. Unsigned: it is (max c - min c) / (2^b - 1) from min c.
    Here c = clip(x, low, high). Returns real values, not codes. Rounding passes the gradient through; beyond a
    learned bound it goes to the bound (PACT, 2018).

    Args:
        x: any shape.
        low: shape (1,).
        high: shape (1,).
        bits: 2 to 8.
        unsigned: see above.

    """
    clipped: Tensor = torch.minimum(torch.maximum(x, low), high)
    values = clipped.detach()
    if unsigned:
        start = values.min()
        width = ((values.max() - start) / (2**bits - 1)).clamp(min=SMALLEST_SCALE)
    else:
        start = torch.zeros((), dtype=values.dtype, device=values.device)
        width = (values.abs().max() / (2 ** (bits - 1) - 1)).clamp(min=SMALLEST_SCALE)
    rounded = torch.round((values - start) / width) * width + start
    quantized: Tensor = clipped + (rounded - values)
    return quantized

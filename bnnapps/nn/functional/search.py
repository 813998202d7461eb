"""Weights whose signs are searched for, and scales that are learned beside them.

LWS-Det: Layer-wise Searching for 1-bit Detectors, Xu et al., CVPR 2021 (differentiable binarization search).
ASDA: Amplitude Suppression and Direction Activation, Xu et al., EMDL 2020 (a shared amplitude).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from bnnapps.nn.functional.autograd import call
from bnnapps.nn.functional.sign import sign
from bnnapps.nn.functional.weights import mean_abs, positive

SearchStart = Literal["random", "weight"]


def search_logits(w: Tensor, start: SearchStart) -> Tensor:
    """First logits of the two candidates of every weight, -1 and +1, shape (2, *w.shape).

    `random`: independent, from N(0, 1) (LWS-Det, 2021). `weight`: -d / 2 and +d / 2 with d = 2 w / mean|w| of each
    filter, so that the search begins at the signs of w and is least certain where w is small.
    """
    if start == "random":
        return torch.randn(2, *w.shape, device=w.device, dtype=w.dtype)
    half = w.detach() / positive(mean_abs(w.detach(), "filter"))
    return torch.stack([-half, half])


def expected_sign(logits: Tensor) -> Tensor:
    """p+ - p-, where p-, p+ = softmax(logits[0], logits[1]): the mean of a sign that is drawn with these odds.

    It equals tanh((logits[1] - logits[0]) / 2). Its sign, with sign(0) = +1, is the more likely candidate.

    Args:
        logits: (2, ...).

    Returns:
        (...), strictly between -1 and 1 up to rounding. With e the result, the gradient in logits[1] is
        (1 - e^2) / 2, and in logits[0] its negative.

    """
    return torch.tanh((logits[1] - logits[0]) / 2)


class _LearnedScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, codes: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(codes, alpha)
        return codes.view_as(codes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        codes, alpha = ctx.saved_tensors
        (grad,) = grads
        dims = tuple(range(1, grad.dim()))
        return grad, (grad * codes).sum(dim=dims, keepdim=True) / alpha


def learned_scale(codes: Tensor, alpha: Tensor) -> Tensor:
    """The codes of alpha * code, where alpha multiplies after the product and is learned.

    With G the gradient of alpha * code, the codes pass on alpha G, and alpha gets the sum of G * code over its filter:
    the product rule.

    Args:
        codes: (O, ...).
        alpha: (O, 1, ...), not zero.

    """
    return call(_LearnedScale, codes, alpha)


class _SharedAmplitude(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, amplitude: Tensor, unit: float, pull: float) -> Tensor:
        ctx.save_for_backward(w, amplitude)
        ctx.unit, ctx.pull = unit, pull
        return sign(w)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        w, amplitude = ctx.saved_tensors
        size = amplitude.abs()
        scale = positive(ctx.unit * size)
        grad = grads[0] / scale
        signs = sign(w)
        apart = (w - scale * signs).mul_(ctx.pull)
        dims = tuple(range(1, w.dim()))
        d_size = (grad * w).sum(dim=dims, keepdim=True) - ctx.unit * (apart * signs).sum(dim=dims, keepdim=True)
        return grad.mul_(size).add_(apart), sign(amplitude) * d_size, None, None


def shared_amplitude(w: Tensor, amplitude: Tensor, unit: float = 0.02, pull: float = 1e-4) -> Tensor:
    """Codes sign(w) of the weight B = u |a| sign(w), whose amplitude a is learned and shared with the real w (ASDA).

    With G the gradient of B, as in the released code of the authors' group:

        dL/dw   = |a| G + p (w - B)
        dL/d|a| = sum(G w) - p u sum((w - B) sign(w))     over each filter

    The terms with p are the gradient of p / 2 ||w - B||^2, which draws the real weights to one amplitude and suppresses
    what differs; |a| G in place of u |a| G, and G w in place of u G sign(w), let a direction act that small amplitudes
    would hide.

    Args:
        w: (O, ...).
        amplitude: a, (O, 1, ...).
        unit: u.
        pull: p.

    Returns:
        +1 and -1, to be multiplied by `positive(u |a|)` behind the product.

    """
    if not torch.is_grad_enabled():
        return sign(w)
    return call(_SharedAmplitude, w, amplitude, unit, pull)

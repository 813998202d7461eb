"""What Bi-GCN does with codes: some are dropped, and a product's input gets a gradient without the scales."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnnapps.nn.functional.autograd import call


class _PlainInput(torch.autograd.Function):
    """Keeps an operand as bytes where it has small integers; dropped codes are scaled, and stay floats."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, scale: Tensor | None, integers: tuple[bool, bool]) -> Tensor:
        kept = (t.detach().to(torch.int8) if small else t for t, small in zip((x, w), integers, strict=True))
        ctx.save_for_backward(*kept, scale)
        result = x @ w.t()
        return result if scale is None else result.mul_(scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, w, scale = ctx.saved_tensors
        (grad,) = grads
        x_grad = grad @ w.to(grad.dtype) if ctx.needs_input_grad[0] else None
        w_grad = None
        if ctx.needs_input_grad[1]:
            scaled = grad if scale is None else grad * scale.to(grad.dtype)
            w_grad = scaled.t() @ x.to(grad.dtype)
        return x_grad, w_grad, None, None


def plain_linear(x: Tensor, w: Tensor, scale: Tensor | None, integers: tuple[bool, bool] = (False, False)) -> Tensor:
    """scale * (x @ w^T), with a gradient for x that leaves the scale out.

    With G the gradient of the result: dL/dx = G @ w, and dL/dw = (G scale)^T @ x. So the released code of Bi-GCN (Wang
    et al., CVPR 2021) has it, where x and w are codes; the chain rule would give dL/dx = (G scale) @ w.

    Args:
        x: (rows, in).
        w: (out, in).
        scale: broadcast to (rows, out), a constant; `None` is 1.
        integers: whether x and w have integers of one byte, as which autograd keeps them then.

    """
    return call(_PlainInput, x, w, None if scale is None else scale.detach(), integers)


_LEVELS = 1 << 16


def dropped(codes: Tensor, probability: float) -> Tensor:
    """Each code times 0 with the given probability, else times 1 / (1 - p), so that means stay.

    p is the probability rounded to a multiple of 2^-16: random numbers of 16 bits are drawn four at a time, several
    times faster on a CPU than `torch.nn.functional.dropout`. Differentiable, with the same factors.
    """
    share = min(round(probability * _LEVELS), _LEVELS - 1)
    words = torch.empty(-(-codes.numel() // 4), dtype=torch.int64, device=codes.device).random_(-(2**63), None)
    numbers = words.view(torch.int16)[: codes.numel()].view(codes.shape)
    kept = (numbers >= share - _LEVELS // 2).to(codes.dtype)
    return codes * kept.mul_(_LEVELS / (_LEVELS - share))

"""A linear layer of codes, in 8-bit integers where the processor multiplies them faster than floats."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from bnnapps.nn.functional.autograd import call
from bnnapps.nn.functional.bits import PackedBits, pack_bits, pack_signs, unpack


class _ScaledLinear(torch.autograd.Function):
    """Keeps one bit for each element of x and w. Both are exact as int8, and so is their product as int32."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, scale: Tensor | None, bias: Tensor | None, flags: tuple[bool, bool]
    ) -> Tensor:
        rows, columns = (t.detach().to(torch.int8).contiguous() for t in (x, w))
        result = torch._int_mm(rows, columns.t()).to(x.dtype)
        # Each gradient needs the other operand; a frozen one asks for nothing.
        ctx.x = _packed(rows, flags[0]) if ctx.needs_input_grad[1] else None
        ctx.w = _packed(columns, flags[1]) if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(scale)
        if scale is not None:
            result.mul_(scale)
        if bias is not None:
            result.add_(bias)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (scale,) = ctx.saved_tensors
        grad = grads[0]
        x_grad = w_grad = bias_grad = None
        if ctx.needs_input_grad[0]:
            # The scale multiplies the weight here, and its gradient below: they are smaller than `grad`, as a rule.
            w = _floats(ctx.w, grad.dtype)
            x_grad = grad @ (w if scale is None else w.mul_(scale.view(-1, 1)))
        if ctx.needs_input_grad[1]:
            w_grad = grad.t() @ _floats(ctx.x, grad.dtype)
            if scale is not None:
                w_grad.mul_(scale.view(-1, 1))
        if ctx.needs_input_grad[3]:
            bias_grad = grad.sum(dim=0)
        return x_grad, w_grad, None, bias_grad, None


def _packed(codes: Tensor, flags: bool) -> PackedBits:
    return pack_bits(codes) if flags else pack_signs(codes)


def _floats(bits: PackedBits, dtype: torch.dtype) -> Tensor:
    return unpack(bits).to(dtype)


def scaled_linear(x: Tensor, w: Tensor, scale: Tensor | None, bias: Tensor | None, flags: tuple[bool, bool]) -> Tensor:
    """scale * (x @ w^T) + bias, for codes x and w; keeps one bit an element of either for the backward pass.

    With G the gradient of the result: dL/dx = (G scale) @ w, dL/dw = (G scale)^T @ x, dL/dbias = the sum of G over
    all but the last dimension. The scale gets none.

    Args:
        x: (..., in).
        w: (out, in).
        scale: (out,) or (1,), a constant; `None` is 1.
        bias: (out,).
        flags: of x and of w, whether they hold 0 and 1 (else -1 and +1).

    """
    # The shape is given outside: what a Function returns as a view may not be changed in place, as an nn.ReLU may do.
    result: Tensor = call(_ScaledLinear, x.reshape(-1, x.shape[-1]), w, scale, bias, flags)
    return result.view(*x.shape[:-1], w.shape[0])


def multiplies_bytes(x: Tensor, w: Tensor) -> bool:
    """Whether `scaled_linear` takes these operands: float32, more than one input, on a processor for it."""
    return (
        x.device.type == w.device.type == "cpu"
        and x.dtype == w.dtype == torch.float32
        and x.numel() > 0
        and w.numel() > 0
        and x.shape[-1] > 1  # PyTorch 2.11 reads a transposed matrix of one row wrongly
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and all(type(t) in (Tensor, torch.nn.Parameter) for t in (x, w))
        and _has_byte_products()
    )


@functools.cache
def _has_byte_products() -> bool:
    # Neither name is documented: where one is missing, or the product is not exact, floats are multiplied.
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    if supported is None or not hasattr(torch, "_int_mm") or not supported():
        return False
    rows = torch.arange(17 * 130).view(17, 130).remainder(7).sub(3).sign().to(torch.int8)
    columns = torch.arange(19 * 130).view(19, 130).remainder(11).sub(5).sign().to(torch.int8)
    exact = torch.equal(torch._int_mm(rows, columns.t()), (rows.double() @ columns.double().t()).int())
    return exact and int(torch._int_mm(torch.ones_like(rows), torch.ones_like(columns).t()).min()) == 130

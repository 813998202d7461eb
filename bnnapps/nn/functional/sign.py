"""The sign function and the gradients that the field gives it.

Forward, everywhere: sign(x) = +1 for x >= 0 and -1 for x < 0, so sign(0) = +1; the step function 1{x >= 0} is
(sign(x) + 1) / 2. The derivative of either is zero almost everywhere, so each estimator below names another
function m and lets the gradient through as dL/dx = m(x) * dL/dy.

============  ==========================================================  ==============================
estimator     m(x)                                                        source
============  ==========================================================  ==============================
identity      1                                                           BinaryConnect (2015)
clip          1 where |x| <= c, else 0                                    BNN (Hubara et al., 2016)
polynomial    max(0, 2 - 2|x|)                                            Bi-Real Net (Liu et al., 2018)
ede           k t (1 - tanh(t x)^2), t and k follow the training          IR-Net (Qin et al., 2020)
swish         b (2 - b x tanh(b x / 2)) / (1 + cosh(b x))                 BNN+ (Darabi et al., 2018)
fourier       n + 1 cosines of the Fourier series where |x| <= 1          FDA-BNN (Xu et al., 2021)
lpb           a where |a x| <= 1, else 0; a is learned                    BiFSMNv2 (Qin et al., 2023)
============  ==========================================================  ==============================
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnnapps.nn.functional.autograd import call
from bnnapps.nn.functional.bits import in_memory_order, is_dense, pack_bits, unpack
from bnnapps.nn.functional.levels import Grid, grid, pack_levels, unpack_levels

Derivative = Callable[[Tensor], Tensor]


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0 (0 and -0 included), else -1 (NaN included). Any shape. No gradient.

    Example:
        >>> sign(torch.tensor([-2.0, -0.0, 0.0, 3.0]))
        tensor([-1.,  1.,  1.,  1.])

    """
    if _traced(x):
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
    flags = step(x)
    return torch.add(_minus_one(flags.dtype), flags, alpha=2, out=flags)


def step(x: Tensor) -> Tensor:
    """1 where x >= 0 (0 and -0 included), else 0 (NaN included). Any shape. No gradient.

    Example:
        >>> step(torch.tensor([-2.0, -0.0, 0.0, 3.0]))
        tensor([0., 1., 1., 1.])

    """
    if _traced(x):
        return torch.where(x >= 0, 1.0, 0.0).to(x.dtype)
    x = x.detach()
    # On a CPU a comparison that writes floats is several times faster than one that yields booleans.
    return torch.ge(x, 0, out=torch.empty_like(x))


@functools.cache
def _minus_one(dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(-1, dtype=dtype, device="cpu")  # a number, on whatever device the other operand is


def _traced(x: Tensor) -> bool:
    return torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter)


class _Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Derivative) -> Tensor:
        return forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None


class _Window(torch.autograd.Function):
    """Keeps one bit an element: whether |x| <= limit; nothing, where that holds everywhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Derivative, limit: float) -> Tensor:
        ctx.inside = None if _all_inside(x, limit) else pack_bits(x.detach().abs().le_(limit))
        return forward(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        grad = grads[0] if ctx.inside is None else unpack(ctx.inside).mul_(grads[0])
        return grad, None, None


def _all_inside(x: Tensor, limit: float) -> bool:
    """Whether |x| <= limit everywhere, where that is cheap to know: on a CPU, nothing has to wait for the answer."""
    if x.device.type != "cpu" or x.numel() == 0:
        return False
    if is_dense(x) and not _bounded(in_memory_order(x)[:_PROBE], limit):  # most activations are known by a few
        return False
    return _bounded(x.detach(), limit)


_PROBE = 4096


def _bounded(x: Tensor, limit: float) -> bool:
    low, high = torch.aminmax(x)
    return -limit <= float(low) and float(high) <= limit  # false for NaN


class _Weighted(torch.autograd.Function):
    """Keeps x: the multiplier depends on its value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Derivative, derivative: Derivative) -> Tensor:
        ctx.save_for_backward(x)
        ctx.derivative = derivative
        return forward(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.derivative(x) * grads[0], None, None


class _Levelled(torch.autograd.Function):
    """Keeps the multiplier in a few bits an element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Derivative, derivative: Derivative, levels: Grid) -> Tensor:
        ctx.multiplier = pack_levels(x, derivative, levels)
        return forward(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return unpack_levels(ctx.multiplier, grads[0].dtype).mul_(grads[0]), None, None, None


def _apply(function: Any, x: Tensor, forward: Derivative, *args: Any) -> Tensor:
    if not (torch.is_grad_enabled() and x.requires_grad):
        return forward(x)
    return call(function, x, forward, *args)


def weighted_sign(x: Tensor, derivative: Derivative, forward: Derivative = sign, levels: Grid | None = None) -> Tensor:
    """sign(x) with dL/dx = derivative(x) dL/dy. `forward` may be `step`.

    Keeps x; or, with `levels`, which of them stands for derivative(x): see `bnnapps.nn.functional.levels`.
    """
    if levels is None:
        return _apply(_Weighted, x, forward, derivative)
    return _apply(_Levelled, x, forward, derivative, levels)


def sign_identity(x: Tensor, forward: Derivative = sign) -> Tensor:
    """sign(x) with dL/dx = dL/dy (BinaryConnect, Courbariaux et al., 2015). `forward` may be `step`."""
    return _apply(_Identity, x, forward)


def sign_clip(x: Tensor, limit: float = 1.0, forward: Derivative = sign) -> Tensor:
    """sign(x) with dL/dx = 1{|x| <= limit} dL/dy (BNN, Hubara et al., 2016). Keeps one bit an element.

    `limit`: 1 in BNN, XNOR-Net and ReActNet's weights; 1.25 in ResNetE and QuickNet, 1.3 in BinaryDenseNet.
    """
    return _apply(_Window, x, forward, limit)


class _Sloped(torch.autograd.Function):
    """Keeps x and the slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor, forward: Derivative) -> Tensor:
        ctx.save_for_backward(x, slope)
        return forward(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, slope = ctx.saved_tensors
        outside = ((x * slope).abs_() <= 1).logical_not_()
        grad = grads[0].masked_fill(outside, 0)
        of_slope = (grad * x.masked_fill(outside, 0)).sum().view(slope.shape) if ctx.needs_input_grad[1] else None
        return grad.mul_(slope), of_slope, None


def sign_lpb(x: Tensor, slope: Tensor, forward: Derivative = sign) -> Tensor:
    """sign(a x) with the gradient of clip(a x, -1, 1): the learning-propagation binarizer of BiFSMNv2.

    dL/dx = a 1{|a x| <= 1} dL/dy and dL/da = sum of x 1{|a x| <= 1} dL/dy (Qin et al., TNNLS 2023). With a > 0 the
    codes are sign(x): a is for the training alone. Keeps x.

    Args:
        x: any shape.
        slope: a, shape (1,), positive.
        forward: `sign` or `step`.

    """
    if not (torch.is_grad_enabled() and (x.requires_grad or slope.requires_grad)):
        return forward(x)
    return call(_Sloped, x, slope.to(x.dtype), forward)


def sign_polynomial(x: Tensor, forward: Derivative = sign, keep_bits: int | None = None) -> Tensor:
    """sign(x) with dL/dx = max(0, 2 - 2|x|) dL/dy (Bi-Real Net, Liu et al., 2018).

    The multiplier is the derivative of x^2 + 2x on [-1, 0] and of 2x - x^2 on [0, 1]. Keeps x, or `keep_bits` (1 to 4)
    bits an element of the multiplier, at random so that its mean stays.
    """
    return weighted_sign(x, polynomial_derivative, forward, None if keep_bits is None else grid(keep_bits, 2.0))


def sign_swish(x: Tensor, beta: float = 5.0, forward: Derivative = sign, keep_bits: int | None = None) -> Tensor:
    """sign(x) with the SignSwish gradient (BNN+, Darabi et al., 2018).

    Keeps x, or `keep_bits` (2 to 4) bits of the multiplier, which lies between -0.0738 b and b.
    """
    levels = None if keep_bits is None else grid(keep_bits, beta, negative=0.074)
    return weighted_sign(x, lambda v: swish_derivative(v, beta), forward, levels)


def sign_ede(
    x: Tensor, k: Tensor | float, t: Tensor | float, forward: Derivative = sign, keep_bits: int | None = None
) -> Tensor:
    """sign(x) with dL/dx = k t (1 - tanh(t x)^2) dL/dy, the error-decay estimator of IR-Net (2020).

    Keeps x, or `keep_bits` (1 to 4) bits of the multiplier, which lies between 0 and k t.
    """
    levels = None if keep_bits is None else grid(keep_bits, k * t)
    return weighted_sign(x, lambda v: ede_derivative(v, k, t), forward, levels)


def polynomial_derivative(x: Tensor) -> Tensor:
    """max(0, 2 - 2|x|)."""
    return x.abs().mul_(-2).add_(2).clamp_(min=0)


def swish_derivative(x: Tensor, beta: float = 5.0) -> Tensor:
    """b (2 - b x tanh(b x / 2)) / (1 + cosh(b x)), the derivative of 2 s(bx) (1 + bx (1 - s(bx))) - 1."""
    z = (beta * x).clamp(-80.0, 80.0)  # cosh overflows float32 beyond; the quotient is 0 there
    return beta * (2 - z * torch.tanh(z / 2)) / (1 + torch.cosh(z))


def ede_derivative(x: Tensor, k: Tensor | float, t: Tensor | float) -> Tensor:
    """k t (1 - tanh(t x)^2)."""
    return k * t * (1 - torch.tanh(t * x).square())


def ede_schedule(fraction: float, t_min: float = 0.1, t_max: float = 10.0) -> tuple[float, float]:
    """(k, t) of IR-Net at the given fraction of training.

    t = 10^(log10 t_min + (log10 t_max - log10 t_min) * fraction), k = max(1 / t, 1). The paper has t_min = 0.1;
    the released ResNet code starts at 0.001.
    """
    low, high = math.log10(t_min), math.log10(t_max)
    t = 10.0 ** (low + (high - low) * fraction)
    return max(1.0 / t, 1.0), t

"""What happens to a latent weight before and after its sign: centring, standardizing, scaling; ternary weights.

A weight has its output channels on dimension 0 (`filter` statistics run over the rest); an embedding has its
rows there. Statistics over the whole tensor are called `layer`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bnnapps.nn.functional.autograd import call
from bnnapps.nn.functional.bits import pack_signs, unpack
from bnnapps.nn.functional.sign import sign


def _rest(w: Tensor) -> tuple[int, ...]:
    return tuple(range(1, w.dim()))


def mean_abs(w: Tensor, over: str) -> Tensor:
    """Mean of |w|: over each filter ("filter", shape (O, 1, ...)) or over everything ("layer", shape (1, ...))."""
    dims = tuple(range(w.dim())) if over == "layer" else _rest(w)
    total = w.abs().sum(dim=dims, keepdim=True)  # on a CPU several times faster than the norm of order 1
    return total / math.prod([w.shape[d] for d in dims])  # a list: torch.compile knows no generators here


class _Centre(torch.autograd.Function):
    """w minus its mean. The gradient is centred in turn, in two passes over it where PyTorch's own takes four."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, dims: tuple[int, ...]) -> Tensor:
        ctx.dims = dims
        return w - w.mean(dim=dims, keepdim=True)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] - grads[0].mean(dim=ctx.dims, keepdim=True), None


def centre(w: Tensor, over: str, detach: bool = False, whole: Tensor | None = None) -> Tensor:
    """w minus its mean: over each filter, over the layer, or over the input channels at each tap ("channel").

    `channel` is XNOR-Net's (dimension 1 only, so each tap of a kernel is centred on its own); for a linear layer
    it equals `filter`, and the one channel of a depthwise filter stays as it is. `detach` stops the gradient through
    the mean. `whole`: the tensor whose mean `layer` takes, where `w` holds only some of its filters.
    """
    if over == "channel" and w.shape[1] == 1:
        return w
    if over == "layer":
        mean = (w if whole is None else whole).mean()
        return w - (mean.detach() if detach else mean)
    dims = (1,) if over == "channel" else _rest(w)
    if detach or not (torch.is_grad_enabled() and w.requires_grad):
        return w - w.detach().mean(dim=dims, keepdim=True)
    return call(_Centre, w, dims)


def standardize(w: Tensor) -> Tensor:
    """(w - mean) / std over each filter, unbiased (IR-Net, 2020).

    A constant filter (up to rounding; one of a single element too) becomes all zeros. Its deviation counts as the
    smallest scale there is (`positive`), which multiplies the gradient too, so that the two cancel.
    """
    centred = centre(w, "filter")
    count = math.prod(w.shape[1:])
    std = centred.std(dim=_rest(w), keepdim=True, correction=1 if count > 1 else 0)
    largest = w.detach().abs().amax(dim=_rest(w), keepdim=True)
    constant = std <= torch.finfo(w.dtype).eps * largest
    zeros = centred - centred.detach()
    return torch.where(constant, zeros, centred) / torch.where(constant, positive(torch.zeros_like(std)), std)


def deviation(w: Tensor) -> Tensor:
    """sqrt(mean((w - mean)^2)) over each filter, shape (O, 1, ...): the half distance of AdaBin's two levels (2022).

    Differentiable; a constant filter has the smallest positive deviation there is (`positive`), and no gradient.
    """
    centred = w - w.mean(dim=_rest(w), keepdim=True)
    variance = centred.square().mean(dim=_rest(w), keepdim=True)
    constant = variance <= positive(torch.zeros_like(variance)).square()
    return torch.where(constant, positive(torch.zeros_like(variance)), variance.masked_fill(constant, 1).sqrt())


def power_of_two(w: Tensor, over: str = "filter") -> Tensor:
    """2^round(log2(mean|w|)) over each filter or over the layer, the bit-shift scale of IR-Net (2020). No gradient."""
    mean = mean_abs(w.detach(), over)
    return torch.exp2(torch.round(torch.log2(mean.clamp(min=torch.finfo(w.dtype).tiny))))


class _Unscaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, codes: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return codes.view_as(codes)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (scale,) = ctx.saved_tensors
        return grads[0] / scale, None


def unscaled(codes: Tensor, scale: Tensor) -> Tensor:
    """The codes; their gradient is divided by `scale`, which multiplies them later on.

    So the scaled sign counts as one quantizer, as in the released code of Bi-Real Net, ReActNet, BiBERT and BiT:
    with G the gradient of scale * code, the codes pass on G and not scale * G. `scale` must be positive.
    """
    return call(_Unscaled, codes, scale.detach())


class _ProductRule(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, codes: Tensor, w: Tensor, scale: Tensor) -> Tensor:
        ctx.codes, ctx.signs = pack_signs(codes), pack_signs(sign(w))
        ctx.save_for_backward(scale)
        return codes.view_as(codes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (scale,) = ctx.saved_tensors
        (grad,) = grads
        whole = scale.numel() == 1
        dims = tuple(range(grad.dim())) if whole else _rest(grad)
        mean = (grad / scale * unpack(ctx.codes)).mean(dim=dims, keepdim=True)
        return grad, unpack(ctx.signs).mul_(mean), None


def product_rule(codes: Tensor, w: Tensor, scale: Tensor) -> Tensor:
    """The codes; beside their own gradient, w receives what flows through scale = mean|w|.

    With G the gradient of scale * code, w gets sign(w) mean(G code) over each group that shares a scale: the second
    half of the product rule (XNOR-Net, Rastegari et al., 2016, where the code is sign(w)). `scale` must be positive.
    """
    return call(_ProductRule, codes, w, scale.detach())


class _Ternary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, codes: Tensor) -> Tensor:
        return codes.view_as(codes)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None


def ternary_codes(w: Tensor, over: str, whole: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Codes in {-1, 0, +1} and their scale (Ternary Weight Networks, Li et al., 2016). No gradient.

    A weight is kept where |w| > 0.7 mean|w|; the scale is the mean |w| of the kept ones, over each filter or over
    the layer (0 where none is kept). `whole` is the layer, where `w` holds only some of its filters.
    """
    w = w.detach()
    measured = w if whole is None or over != "layer" else whole.detach()
    threshold = 0.7 * mean_abs(measured, over)
    kept = (measured.abs() > threshold).to(w.dtype)
    dims = tuple(range(w.dim())) if over == "layer" else _rest(w)
    count = kept.sum(dim=dims, keepdim=True)
    scale = (measured.abs() * kept).sum(dim=dims, keepdim=True) / count.clamp(min=1)
    return torch.sign(w) * (w.abs() > threshold), scale


def ternary(w: Tensor, over: str = "layer", whole: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`ternary_codes` whose codes pass the gradient of scale * code to w unchanged (Li et al., 2016).

    The scale is positive: a group of zeros gets its gradient too.
    """
    codes, scale = ternary_codes(w, over, whole)
    scale = positive(scale)
    if not (torch.is_grad_enabled() and w.requires_grad):
        return codes, scale
    return unscaled(call(_Ternary, w, codes), scale), scale


def positive(scale: Tensor) -> Tensor:
    """`scale`, never zero: an all-zero filter still gets its gradient, which is multiplied and divided by it."""
    return scale.clamp(min=1e-4 if scale.dtype == torch.float16 else 1e-20)


def split_ternary(w: Tensor, over: str = "layer") -> tuple[Tensor, Tensor]:
    """Two latent weights whose binary versions sum to the ternary version of `w` (BinaryBERT, Bai et al., 2021).

    With t = ternary(w), n elements in a group (the layer, or each row):
    where t != 0: w1 = a w and w2 = (1 - a) w; where t = 0: w1 = w + b if w > 0 else b, w2 = w - b if w < 0 else -b;
    b = (max t * n - sum|w|) / (2 * #zeros), and a makes the mean |w1| equal the mean |w2|:
    a = (S + S2 - S1) / (2 S), S the sum of |w| over t != 0, S1 and S2 the sums of |w1|, |w2| over t = 0.

    Then w1 + w2 = w; and where |S1 - S2| < S, so 0 < a < 1, mean|w1| sign(w1) + mean|w2| sign(w2) = t, up to rounding.
    (A group whose many small weights share one sign can miss that.) Computed in double precision; both results have the
    dtype of `w`. A group without zeros is halved; one without non-zeros gives zeros.
    """
    x = w.detach().double()
    codes, scale = ternary_codes(x, over)
    dims = tuple(range(x.dim())) if over == "layer" else _rest(x)
    zero = codes == 0
    magnitude = x.abs()
    n = torch.ones_like(x).sum(dim=dims, keepdim=True)
    zeros = zero.sum(dim=dims, keepdim=True)
    b = (scale * n - magnitude.sum(dim=dims, keepdim=True)) / (2 * zeros.clamp(min=1))
    small_1 = torch.where(x > 0, x + b, b.expand_as(x))
    small_2 = torch.where(x < 0, x - b, -b.expand_as(x))
    s = magnitude.masked_fill(zero, 0).sum(dim=dims, keepdim=True)
    s1 = small_1.abs().masked_fill(~zero, 0).sum(dim=dims, keepdim=True)
    s2 = small_2.abs().masked_fill(~zero, 0).sum(dim=dims, keepdim=True)
    a = torch.where(s > 0, (s + s2 - s1) / (2 * s.clamp(min=torch.finfo(x.dtype).tiny)), 0.5)
    w1 = torch.where(zero, small_1, a * x)
    w2 = torch.where(zero, small_2, (1 - a) * x)
    return w1.to(w.dtype), w2.to(w.dtype)

"""What a binarizer hands to the operator that multiplies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.nn.functional import multiplies_bytes, save_codes, scaled_linear
from bnnapps.nn.functional.ones import OnesProducts, wide


class Codes(NamedTuple):
    """An operand: its codes, and the scale that multiplies the product afterwards (`None`: 1).

    Codes are +1 and -1, 0 and 1, or small integers, as floats, so a product of codes is exact in float32 (up to sums
    of 2^24). They carry the gradient; the scale is a constant. `kind` says what the codes may be, so that autograd
    can keep them as bits; `real` values are no codes at all. With an `offset` (AdaBin) the operand is
    scale * codes + offset, and scale and offset carry gradients of their own. `rest` (BiFSMNv2) is what is added to
    the operand: as products are linear, it gets one of its own. A `constant` is real, and the same for every input.
    """

    codes: Tensor
    scale: Tensor | None = None
    kind: Literal["sign", "flag", "integer", "real", "constant"] = "real"
    offset: Tensor | None = None
    rest: Codes | None = None

    def values(self) -> Tensor:
        """scale * codes + offset + rest."""
        result = self.codes if self.scale is None else self.codes * self.scale
        result = result if self.offset is None else result + self.offset
        return result if self.rest is None else result + self.rest.values()


def multiply(product: Callable[..., Tensor], left: Codes, right: Codes, *args: Any) -> Tensor:
    """`product(left.codes, right.codes, *args)`; autograd keeps signs and flags as bits.

    Without gradients the product runs in float32 or better, outside autocast; with them, in autocast's dtype.
    """
    a, b = left.codes, right.codes
    device = a.device.type
    if not torch.is_grad_enabled():
        with torch.autocast(device, enabled=False):
            if a.dtype in (torch.float16, torch.bfloat16):
                a = a.float()
            return product(a, b.to(a.dtype), *args)
    if torch.is_autocast_enabled(device):  # cast here, so that what autograd keeps is what is known as codes
        dtype = torch.get_autocast_dtype(device)
        a, b = a.to(dtype), b.to(dtype)
    signs = tuple(t for t, o in ((a, left), (b, right)) if o.kind == "sign")
    flags = tuple(t for t, o in ((a, left), (b, right)) if o.kind == "flag")
    context: AbstractContextManager[object] = save_codes(signs, flags) if signs or flags else contextlib.nullcontext()
    with context:
        return product(a, b, *args)


def affine_product(
    product: Callable[[Tensor, Tensor], Tensor], of_ones: OnesProducts, x: Codes, w: Codes, channel_dim: int
) -> Tensor:
    """The product of s_x c_x + o_x and s_w c_w + o_w, from exact products of codes and of ones.

    s_x s_w P(c_x, c_w) + o_x s_w P(1, c_w) + o_w (s_x P(c_x, 1) + o_x P(1, 1)), as AdaBin (Tu et al., 2022) deploys it.

    Args:
        product: P, linear in both operands, without bias.
        of_ones: P where one operand is ones, with the border that c_x has.
        x: the activation.
        w: the weight, whose scale and offset have shape (O, 1, ...).
        channel_dim: where the result has its channels.
    """

    def along(value: Tensor) -> Tensor:
        shape = [1] * result.dim()
        shape[channel_dim] = -1
        return value.reshape(shape)

    result = rescale(multiply(product, x, w), x, w, None, channel_dim)
    with torch.autocast(x.codes.device.type, enabled=False):
        if x.offset is not None:
            sums = of_ones.with_weight(w.codes)
            result = result + x.offset * (sums if w.scale is None else sums * along(w.scale))
        if w.offset is not None:
            sums = of_ones.with_input(x.codes)
            sums = sums if x.scale is None else sums * x.scale
            if x.offset is not None:
                sums = sums + x.offset * of_ones.with_weight(of_ones.ones)
            repeats = result.shape[channel_dim] // sums.shape[channel_dim]
            result = result + along(w.offset) * sums.repeat_interleave(repeats, dim=channel_dim)
    return as_operand(result, x)


def linear(x: Codes, w: Codes, bias: Tensor | None) -> Tensor:
    """The linear layer of the operands: scale_x * scale_w * (x @ w^T) + bias, in the dtype that x came in.

    Training multiplies signs and flags as bytes, where `multiplies_bytes` says so: the same integers, in less time.
    """
    rest = x.rest
    if rest is not None:
        result = linear(x._replace(rest=None), w, bias)
        while rest is not None:
            result = result + linear(rest._replace(rest=None), w, None)
            rest = rest.rest
        return result
    if x.offset is not None or w.offset is not None:
        ones = x.codes.new_ones(1, x.codes.shape[-1])
        of_ones = OnesProducts(lambda c: wide(c).sum(dim=-1), lambda c: wide(c).sum(dim=-1, keepdim=True), ones)
        result = affine_product(F.linear, of_ones, x, w, channel_dim=-1)
        return result if bias is None else result + bias
    codes = x.kind in ("sign", "flag") and w.kind in ("sign", "flag")
    numbers = x.scale is None or x.scale.numel() == 1  # not one for each row
    if not (torch.is_grad_enabled() and codes and numbers and multiplies_bytes(x.codes, w.codes)):
        return rescale(multiply(F.linear, x, w), x, w, bias, channel_dim=-1)
    flags = (x.kind == "flag", w.kind == "flag")
    return scaled_linear(x.codes, w.codes, combined(x.scale, w.scale), bias, flags)


def rescale(product: Tensor, x: Codes, w: Codes, bias: Tensor | None, channel_dim: int) -> Tensor:
    """scale_x * scale_w * product + bias, in the dtype that the operand came in.

    The scale of a weight, shape (O, 1, ...), moves to `channel_dim`.
    """
    shape = [1] * product.dim()
    shape[channel_dim] = -1
    scale = None if w.scale is None else w.scale.reshape(shape)
    if x.scale is not None:
        scale = x.scale if scale is None else x.scale * scale
    result = product if scale is None else _scaled(product, scale)
    if bias is not None:
        result = result + bias.reshape(shape) if scale is None else result.add_(bias.reshape(shape))
    return as_operand(result, x)


def combined(x_scale: Tensor | None, w_scale: Tensor | None) -> Tensor | None:
    """scale_x * scale_w, one number or one for each filter, for scales that are not one for each row."""
    scale = None if w_scale is None else w_scale.reshape(-1)
    if x_scale is not None:
        scale = x_scale.reshape(-1) if scale is None else x_scale.reshape(-1) * scale
    return scale


def _scaled(product: Tensor, scale: Tensor) -> Tensor:
    """product * scale; in training in the memory of the product, which nobody else reads."""
    free = product.requires_grad and torch.is_grad_enabled() and not product._is_view() and not scale.requires_grad
    if free and torch.result_type(product, scale) == product.dtype:
        return product.mul_(scale)
    return product * scale


def as_operand(result: Tensor, x: Codes) -> Tensor:
    """The result in the dtype of the operand; under autocast, which decides for itself, as it is."""
    return result if torch.is_autocast_enabled(x.codes.device.type) else result.to(x.codes.dtype)

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


class Codes(NamedTuple):
    """An operand: its codes, and the scale that multiplies the product afterwards (`None`: 1).

    Codes are +1 and -1, 0 and 1, or small integers, as floats, so a product of codes is exact in float32 (up to sums
    of 2^24). They carry the gradient; the scale is a constant. `kind` says what the codes may be, so that autograd
    can keep them as bits; `real` values are no codes at all.
    """

    codes: Tensor
    scale: Tensor | None = None
    kind: Literal["sign", "flag", "integer", "real"] = "real"


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


def linear(x: Codes, w: Codes, bias: Tensor | None) -> Tensor:
    """The linear layer of the operands: scale_x * scale_w * (x @ w^T) + bias, in the dtype that x came in.

    Training multiplies signs and flags as bytes, where `multiplies_bytes` says so: the same integers, in less time.
    """
    codes = x.kind in ("sign", "flag") and w.kind in ("sign", "flag")
    numbers = x.scale is None or x.scale.numel() == 1  # not one for each row
    if not (torch.is_grad_enabled() and codes and numbers and multiplies_bytes(x.codes, w.codes)):
        return rescale(multiply(F.linear, x, w), x, w, bias, channel_dim=-1)
    scale = None if w.scale is None else w.scale.reshape(-1)
    if x.scale is not None:
        scale = x.scale.reshape(-1) if scale is None else x.scale.reshape(-1) * scale
    return scaled_linear(x.codes, w.codes, scale, bias, (x.kind == "flag", w.kind == "flag"))


def rescale(product: Tensor, x: Codes, w: Codes, bias: Tensor | None, channel_dim: int) -> Tensor:
    """scale_x * scale_w * product + bias, in the dtype that the operand came in.

    The scale of a weight, shape (O, 1, ...), moves to `channel_dim`.
    """
    shape = [1] * product.dim()
    shape[channel_dim] = -1
    scale = None if w.scale is None else w.scale.reshape(shape)
    if x.scale is not None:
        scale = x.scale if scale is None else x.scale * scale
    result = product if scale is None else product * scale
    if bias is not None:
        result = result + bias.reshape(shape) if scale is None else result.add_(bias.reshape(shape))
    return as_operand(result, x)


def as_operand(result: Tensor, x: Codes) -> Tensor:
    """The result in the dtype of the operand; under autocast, which decides for itself, as it is."""
    return result if torch.is_autocast_enabled(x.codes.device.type) else result.to(x.codes.dtype)

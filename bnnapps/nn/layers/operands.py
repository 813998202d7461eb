"""The binarizers of a weight and of the activation that meets it, as most layers have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.codes import Codes, combined, linear, rescale
from bnnapps.nn.functional import (
    Compared,
    disable_compiler,
    linear_codes,
    linear_of_bits,
    plain_linear,
    quantize_gradient,
)
from bnnapps.nn.layers.base import Parts, device_dtype
from bnnapps.nn.output import OutputScale
from bnnapps.nn.packed import packed_weight, takes
from bnnapps.nn.spec import ActivationSpec, LinearSpec
from bnnapps.nn.weights import WeightBinarizer


class LinearParts(Parts):
    """The binarizers of a weight and of an activation (`None` keeps that operand real), and the output scale."""

    weight: WeightBinarizer | None
    activation: ActivationBinarizer | None
    output: OutputScale | None

    def __init__(self, spec: LinearSpec, weight: Tensor, channels: int, channel_dim: int = -1) -> None:
        super().__init__()
        self.weight = WeightBinarizer(spec.weight, weight) if spec.weight else None
        self.activation = activation_binarizer(spec.activation, channels, weight, channel_dim)
        self.output = (
            None if spec.output is None else OutputScale(spec.output, weight, channels, positions=-1 - channel_dim)
        )
        self.gradient_bits = spec.gradient_bits
        self.plain = spec.input_gradient == "plain"

    def operands(self, x: Tensor, weight: Tensor, offsets: bool = False) -> tuple[Codes, Codes]:
        """Both operands of the product; without `offsets`, one that has an offset or a rest comes as real values."""
        found = codes_of(self.activation, x), codes_of(self.weight, weight)
        return found if offsets else (_without_offset(found[0]), _without_offset(found[1]))

    def on_bits(self, x: Tensor, weight: Tensor, terms: int, products: int) -> bool:
        """Whether the kernels compute the product of both operands: see `bnnapps.nn.packed.takes`."""
        parts = self.activation, self.weight
        return (
            self.activation is not None
            and self.weight is not None
            and self.activation.gives_bits
            and self.weight.gives_signs
            and takes(x, weight, terms, products)
            and not any(part._forward_hooks or part._forward_pre_hooks for part in parts if part is not None)
        )

    def project(self, x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        """s (codes(x) @ codes(W)^T) + bias: (..., in) -> (..., out), for a latent weight W, (out, in)."""
        inner = bias if self.output is None else None
        if self.plain and torch.is_grad_enabled():
            result = self._project_plainly(x, matrix)
            result = result if inner is None else result + inner
        elif x.dim() > 0 and x.shape[-1] == matrix.shape[1] and self._linear_on_bits(x, matrix):
            result = self._project_bits(x, matrix, inner)
        else:
            left, right = self.operands(x, matrix, offsets=True)
            result = linear(left, right, inner)
        if self.waits_for_data:
            self.recover(result, matrix, lambda weight: F.linear(x, weight))
        result = self.finish(result, x)
        return result if inner is bias or bias is None else result + bias

    def _project_plainly(self, x: Tensor, matrix: Tensor) -> Tensor:
        """The product, whose input gets its gradient without the scales."""
        left, right = self.operands(x, matrix)
        scale = None if right.scale is None else right.scale.reshape(1, -1)
        if left.scale is not None:
            rows = left.scale if left.scale.numel() == 1 else _rows(left.scale.expand(*x.shape[:-1], 1))
            scale = rows if scale is None else rows * scale
        integers = left.kind != "real", right.kind != "real"
        result = plain_linear(_rows(left.codes), right.codes, scale, integers)
        return result.view(*x.shape[:-1], matrix.shape[0])

    def _linear_on_bits(self, x: Tensor, matrix: Tensor) -> bool:
        """Whether the kernels take it; a scale for each row is multiplied outside of them."""
        return self.on_bits(x, matrix, matrix.shape[1], x.numel() * matrix.shape[0])

    def _project_bits(self, x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_grad_enabled():
            return self._project_bits_trained(x, matrix, bias)
        rows, x_scale, fused = self._rows_on_bits(x)
        assert self.weight is not None
        weight, keep = packed_weight(self.weight, matrix)
        scale = combined(x_scale, weight.scale) if fused else None
        result = linear_of_bits(rows, weight.bits, scale, bias if fused else None, keep)
        result = result.view(*x.shape[:-1], matrix.shape[0])
        return result if fused else rescale(result, Codes(x, x_scale), Codes(x, weight.scale), bias, channel_dim=-1)

    # A compiled graph breaks here, as it does at the gradient of a sign.
    @disable_compiler
    def _project_bits_trained(self, x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        rows, x_scale, fused = self._rows_on_bits(x)
        assert self.weight is not None
        w = self.weight(matrix)
        scale = combined(x_scale, w.scale) if fused else None
        result = linear_codes(rows, w.codes, scale, bias if fused else None).view(*x.shape[:-1], matrix.shape[0])
        return result if fused else rescale(result, Codes(x, x_scale), Codes(x, w.scale), bias, channel_dim=-1)

    def _rows_on_bits(self, x: Tensor) -> tuple[Compared, Tensor | None, bool]:
        """The activation as rows, its scale, and whether that is one number, not one for each row."""
        assert self.activation is not None
        found, scale = self.activation.compared(x)
        rows = found._replace(codes=_rows(found.codes), source=_rows(found.source))
        return rows, scale, scale is None or scale.numel() == 1

    @property
    def waits_for_data(self) -> bool:
        """Whether the output scale starts from the batch at hand."""
        return self.output is not None and self.output.needs_data and self.training

    @torch.no_grad()
    def recover(self, result: Tensor, weight: Tensor, product: Callable[[Tensor], Tensor]) -> None:
        """Let the output scale start from the first batch of the training.

        Args:
            result: the product of the codes.
            weight: the latent weight.
            product: the real product of the real input with the weight that it is given.

        """
        assert self.output is not None
        real = weight if self.weight is None else self.weight.transformed(weight)
        codes = codes_of(self.weight, weight).codes
        self.output.recover(product(real), result, real, codes)

    def finish(self, result: Tensor, x: Tensor) -> Tensor:
        """The output scale on the result for the real input x; the gradient that comes back is rounded."""
        if self.output is not None:
            result = self.output(result, x)
        return quantize_gradient(result, self.gradient_bits)

    def constrain(self, weight: Tensor) -> None:
        """Apply the constraints of the latent weight and of the learned scale."""
        if self.weight is not None:
            self.weight.constrain(weight)
        if self.activation is not None:
            self.activation.constrain()

    def latent(self, key: str, weight: Tensor) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The weight with its key and binarizer; nothing where it stays real."""
        return [] if self.weight is None else [(key, weight, self.weight)]

    def deployed(self, weight: Tensor) -> Tensor:
        """scale * code (+ offset) of the weight, no gradient."""
        return deployed_codes(self.weight, weight).values()


def activation_binarizer(
    spec: ActivationSpec | None, channels: int, like: Tensor, channel_dim: int = -1
) -> ActivationBinarizer | None:
    """The binarizer for `spec` on the device and dtype of `like`, or `None` for no spec."""
    return None if spec is None else ActivationBinarizer(spec, channels, channel_dim, **device_dtype(like))


def codes_of(binarizer: Any, tensor: Tensor) -> Codes:
    """What the binarizer makes of the tensor; without one, the tensor itself."""
    result: Codes = Codes(tensor) if binarizer is None else binarizer(tensor)
    return result


@torch.no_grad()
def deployed_codes(binarizer: WeightBinarizer | None, weight: Tensor) -> Codes:
    """The weight as deployment has it: without noise, without gradient."""
    result: Codes = Codes(weight.detach()) if binarizer is None else binarizer(weight.detach(), noisy=False)
    return result


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _without_offset(operand: Codes) -> Codes:
    return operand if operand.offset is None and operand.rest is None else Codes(operand.values())

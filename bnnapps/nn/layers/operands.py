"""The binarizers of a weight and of the activation that meets it, as most layers have them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.codes import Codes
from bnnapps.nn.functional import quantize_gradient
from bnnapps.nn.layers.base import Parts, device_dtype
from bnnapps.nn.output import OutputScale
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

    def operands(self, x: Tensor, weight: Tensor, offsets: bool = False) -> tuple[Codes, Codes]:
        """Both operands of the product; without `offsets`, one that has an offset comes as real values."""
        found = codes_of(self.activation, x), codes_of(self.weight, weight)
        return found if offsets else (_without_offset(found[0]), _without_offset(found[1]))

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


def _without_offset(operand: Codes) -> Codes:
    return operand if operand.offset is None else Codes(operand.values())

"""The binarizers of a weight and of the activation that meets it, as most layers have them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.codes import Codes
from bnnapps.nn.layers.base import Parts, device_dtype
from bnnapps.nn.spec import ActivationSpec, LinearSpec
from bnnapps.nn.weights import WeightBinarizer


class LinearParts(Parts):
    """The binarizers of a weight and of an activation; `None` keeps that operand real."""

    weight: WeightBinarizer | None
    activation: ActivationBinarizer | None

    def __init__(self, spec: LinearSpec, weight: Tensor, channels: int, channel_dim: int = -1) -> None:
        super().__init__()
        self.weight = WeightBinarizer(spec.weight, weight) if spec.weight else None
        self.activation = activation_binarizer(spec.activation, channels, weight, channel_dim)

    def operands(self, x: Tensor, weight: Tensor) -> tuple[Codes, Codes]:
        """Both operands of the product."""
        return codes_of(self.activation, x), codes_of(self.weight, weight)

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
        """scale * code of the weight, no gradient."""
        codes, scale, _ = codes_of(self.weight, weight.detach())
        return (codes if scale is None else codes * scale).detach()


def activation_binarizer(
    spec: ActivationSpec | None, channels: int, like: Tensor, channel_dim: int = -1
) -> ActivationBinarizer | None:
    """The binarizer for `spec` on the device and dtype of `like`, or `None` for no spec."""
    return None if spec is None else ActivationBinarizer(spec, channels, channel_dim, **device_dtype(like))


def codes_of(binarizer: Any, tensor: Tensor) -> Codes:
    """What the binarizer makes of the tensor; without one, the tensor itself."""
    result: Codes = Codes(tensor) if binarizer is None else binarizer(tensor)
    return result

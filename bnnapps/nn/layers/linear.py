"""Binary linear layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.layers.operands import LinearParts
from bnnapps.nn.spec import LinearSpec
from bnnapps.nn.weights import WeightBinarizer


class BinaryLinear(BinaryLayer[LinearSpec], nn.Linear):
    """y = s (codes(x) @ codes(W)^T) + bias: a linear layer whose operands are binary.

    With `spec.output` a learned factor multiplies the product before the bias.

    The product of codes is exact, and the scale multiplies the integers after it, in training as in deployment; so
    what was a tie at zero in training is one on every device.

    Args:
        in_features, out_features, bias, device, dtype: as in `nn.Linear`.
        spec: the parts; without one, sign(W) mean|W| and sign(x), both with the clipped gradient.

    Shapes: (..., in_features) -> (..., out_features).

    """

    replaces = nn.Linear
    binary: LinearParts

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        spec: LinearSpec | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        spec = LinearSpec() if spec is None else spec
        self.attach(spec, self.make_parts(spec))

    def make_parts(self, spec: LinearSpec) -> LinearParts:
        """The binarizers for this layer."""
        return LinearParts(spec, self.weight, self.in_features)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.Linear
        """The binary product; see the class."""
        return self.binary.project(input, self.weight, self.bias)

    def constrain(self) -> None:
        """Apply the constraints of the latent weight and of the learned scale."""
        self.binary.constrain(self.weight)

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The weight."""
        return self.binary.latent("weight", self.weight)

    def binary_tensors(self) -> dict[str, Tensor]:
        """The weight as deployment has it."""
        return {"weight": self.binary.deployed(self.weight)}

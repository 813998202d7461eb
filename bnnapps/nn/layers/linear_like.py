"""What multiplies by a matrix without being an `nn.Linear`."""

from __future__ import annotations

from torch import Tensor

from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.layers.operands import LinearParts
from bnnapps.nn.spec import LinearSpec
from bnnapps.nn.weights import WeightBinarizer


class BinaryLinearLike(BinaryLayer[LinearSpec]):
    """A linear layer of another library: same arithmetic as `BinaryLinear`, with the library's own attributes."""

    binary: LinearParts
    weight: Tensor
    bias: Tensor | None

    @property
    def matrix(self) -> Tensor:
        """The latent weight with one filter a row, (out, in): the parameter itself, or a view of it."""
        return self.weight

    def make_parts(self, spec: LinearSpec) -> LinearParts:
        """The binarizers for this layer."""
        return LinearParts(spec, self.weight, self.weight.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """The binary product."""
        return self.binary.project(x, self.matrix, self.bias)

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The weight."""
        return self.binary.latent("weight", self.matrix)

    def constrain(self) -> None:
        """Apply the constraints of the latent weight and of the learned scale."""
        self.binary.constrain(self.matrix)

    def binary_tensors(self) -> dict[str, Tensor]:
        """The weight as deployment has it, in the shape of the parameter."""
        return {"weight": self.binary.deployed(self.matrix)}

"""A smooth activation function that becomes ReLU, so that the next quantizer sees what is not negative."""

from __future__ import annotations

from torch import Tensor

from bnnapps.nn import functional as BF
from bnnapps.nn.layers.base import BinaryLayer, Parts
from bnnapps.nn.spec import NonlinearitySpec


class ReplacedNonlinearity(BinaryLayer[NonlinearitySpec]):
    """max(0, x) in place of GELU (BiT, Liu et al., 2022)."""

    def make_parts(self, spec: NonlinearitySpec) -> Parts:
        """Nothing is needed."""
        return Parts()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.GELU
        """max(0, x)."""
        return BF.relu(input)

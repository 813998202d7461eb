"""A smooth activation function that becomes ReLU, so that the next quantizer sees what is not negative, or a sign."""

from __future__ import annotations

from torch import Tensor, nn

from bnnapps.nn import functional as BF
from bnnapps.nn.layers.base import BinaryLayer, Parts
from bnnapps.nn.spec import NonlinearitySpec


class Squash(nn.Tanh):
    """tanh(x), where a model of your own is to have a sign once it is binary (Bahri et al., CVPR 2021).

    A float network that was trained with it hands on activations that are nearly -1 and +1.
    """


class ReplacedNonlinearity(BinaryLayer[NonlinearitySpec]):
    """max(0, x) in place of GELU (BiT, Liu et al., 2022), or sign(x) in place of `Squash`.

    The sign has the gradient 1 where |x| <= 1 (Bahri et al., CVPR 2021, who train with tanh first).
    """

    def make_parts(self, spec: NonlinearitySpec) -> Parts:
        """Nothing is needed."""
        return Parts()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.GELU
        """max(0, x), or sign(x)."""
        return BF.sign_clip(input) if self.spec.becomes == "sign" else BF.relu(input)

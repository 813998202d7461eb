"""An activation function that becomes another one, whose sign or whose range suits the quantizer behind it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import hardtanh

from bnnapps.nn import functional as BF
from bnnapps.nn.layers.base import BinaryLayer, Parts
from bnnapps.nn.spec import NonlinearitySpec


class Squash(nn.Tanh):
    """tanh(x), where a model of your own is to have a sign once it is binary (Bahri et al., CVPR 2021).

    A float network that was trained with it hands on activations that are nearly -1 and +1.
    """


class Rectifier(nn.ReLU):
    """max(0, x), where a model of your own is to have another function once it is binary.

    Behind a ReLU every sign is +1; `hardtanh`, x clipped to [-1, 1], keeps signs and the clipped gradient alike.
    """


class ReplacedNonlinearity(BinaryLayer[NonlinearitySpec]):
    """max(0, x), sign(x), x clipped to [-1, 1] or x itself, in place of GELU, `Squash` or `Rectifier`.

    BiT (Liu et al., 2022) puts ReLU in place of GELU, BiPointNet (Qin et al., 2021) clips in place of ReLU. The
    sign has the gradient 1 where |x| <= 1 (Bahri et al., CVPR 2021, who train with tanh first).
    """

    def make_parts(self, spec: NonlinearitySpec) -> Parts:
        """Nothing is needed."""
        return Parts()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.GELU
        """What the spec says, of x."""
        if self.spec.becomes == "identity":
            return input
        if self.spec.becomes == "hardtanh":
            return hardtanh(input)
        return BF.sign_clip(input) if self.spec.becomes == "sign" else BF.relu(input)

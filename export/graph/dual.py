"""The deployed form of what follows the first sign of an activation of two (BiFSMNv2)."""

from __future__ import annotations

from torch import Tensor, nn

from bnnapps.export.graph.product import Convolution, Dense
from bnnapps.export.graph.quantizer import Quantizer
from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.codes import Codes
from bnnapps.nn.functional.ones import sums_with


class SecondSign(nn.Module):
    """What the second sign and the constant of an operand add to the scaled product of the first.

    With b the codes of the first sign: s s_w P(sign(x - b + t_1), w) + s_w P(t_2, w), where s is the mean
    |x - b + t_1| of each row, or (a convolution) of each sample. P(t_2, w) follows from the weights alone; where the
    layer puts a border of zeros around its map it differs from position to position.

    Args:
        site: the name of the layer; that of this product is SITE/second.
        binarizer: of the activation.
        weight: codes and scale of the weight.
        product: for the second set of codes.
        trailing: how many dimensions follow the channels.

    """

    scale: Tensor | None
    constant: Tensor | None
    sums: Tensor | None

    def __init__(
        self, site: str, binarizer: ActivationBinarizer, weight: Codes, product: Dense | Convolution, trailing: int
    ) -> None:
        super().__init__()
        assert binarizer.second is not None
        self.activation = Quantizer(f"{site}/second", binarizer.second)
        self.product = product
        shape = (-1,) + (1,) * trailing
        self.register_buffer("scale", None if weight.scale is None else weight.scale.detach().reshape(shape).clone())
        self.register_buffer("constant", None)
        self.register_buffer("sums", None)
        offset, codes = binarizer.offset.detach(), weight.codes.detach()
        if isinstance(product, Dense):
            self.constant = self._scaled(nn.functional.linear(offset, codes))
        else:
            self.sums = sums_with(codes, offset, product.geometry[2])

    def forward(self, result: Tensor, codes: Tensor, x: Tensor) -> Tensor:
        """The result of the first sign, whose codes of x these are, with what follows it."""
        left = x - codes
        scale = self.activation.row_scale(left)
        product: Tensor = self.product(self.activation(left))
        assert scale is not None
        result = result + product * (scale if self.scale is None else scale * self.scale)
        return result + self._constant(x)

    def _constant(self, x: Tensor) -> Tensor:
        if self.sums is None:
            assert self.constant is not None
            return self.constant
        assert isinstance(self.product, Convolution)
        return self._scaled(self.product.of_constant(self.sums, x))

    def _scaled(self, value: Tensor) -> Tensor:
        return value if self.scale is None else value * self.scale


def second_sign(
    site: str,
    binarizer: ActivationBinarizer | None,
    weight: Codes,
    product: Dense | Convolution,
    trailing: int,
) -> SecondSign | None:
    """What follows the first sign of an activation, or `None` for an activation of one."""
    if binarizer is None or binarizer.second is None:
        return None
    return SecondSign(site, binarizer, weight, product, trailing)

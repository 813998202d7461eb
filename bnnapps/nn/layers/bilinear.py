"""Binary bilinear layer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.nn.codes import Codes, as_operand, linear, multiply, rescale
from bnnapps.nn.layers.base import BinaryLayer, Parts
from bnnapps.nn.layers.operands import activation_binarizer, codes_of, deployed_codes
from bnnapps.nn.layers.refusals import operands_only
from bnnapps.nn.spec import LinearSpec
from bnnapps.nn.weights import WeightBinarizer


class BilinearParts(Parts):
    """The binarizers of the weight and of each input; `None` keeps that operand real."""

    def __init__(self, spec: LinearSpec, layer: nn.Bilinear) -> None:
        super().__init__()
        self.weight = WeightBinarizer(spec.weight, layer.weight) if spec.weight else None
        self.activation1 = activation_binarizer(spec.activation, layer.in1_features, layer.weight)
        self.activation2 = activation_binarizer(spec.activation, layer.in2_features, layer.weight)


class BinaryBilinear(BinaryLayer[LinearSpec], nn.Bilinear):
    """y_o = s (codes(x1)^T codes(W_o) codes(x2)) + b_o: a bilinear layer whose three operands are binary.

    Both products are sums of codes, so they are exact; the scales multiply after the second. The second input meets
    the weight first, which needs out * in1 numbers a row.

    Args:
        in1_features, in2_features, out_features, bias, device, dtype: as in `nn.Bilinear`.
        spec: the parts; both inputs have a binarizer of their own, made from `spec.activation`.

    Shapes: (..., in1_features), (..., in2_features) -> (..., out_features).

    """

    replaces = nn.Bilinear
    binary: BilinearParts

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        spec: LinearSpec | None = None,
    ) -> None:
        super().__init__(in1_features, in2_features, out_features, bias, device, dtype)
        spec = LinearSpec() if spec is None else spec
        self.attach(spec, self.make_parts(spec))

    @staticmethod
    def check_spec(name: str, module: nn.Module, spec: LinearSpec) -> None:
        """Refuse an output scale, and a rounded gradient."""
        operands_only(spec, f"'{name}', a bilinear layer,")

    def make_parts(self, spec: LinearSpec) -> BilinearParts:
        """The binarizers for this layer.

        Raises:
            BinarizeError: an output scale, or a rounded gradient.

        """
        operands_only(spec, "a bilinear layer")
        return BilinearParts(spec, self)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """The binary products; see the class."""
        if input1.shape[:-1] != input2.shape[:-1]:
            raise ValueError(
                f"the inputs of a bilinear layer differ before their last dimension: {tuple(input1.shape)} and "
                f"{tuple(input2.shape)}"
            )
        x1, x2 = codes_of(self.binary.activation1, input1), codes_of(self.binary.activation2, input2)
        w = codes_of(self.binary.weight, self.weight)
        if any(operand.offset is not None for operand in (x1, x2, w)):
            return _affine(x1, x2, w, self.bias)
        rows = w._replace(codes=w.codes.flatten(0, 1))
        met = multiply(F.linear, x2, rows).unflatten(-1, (self.out_features, self.in1_features))
        product = multiply(_inner, Codes(met), x1)
        if x2.scale is not None:
            x1 = x1._replace(scale=x2.scale if x1.scale is None else x1.scale * x2.scale)
        return rescale(product, x1, w, self.bias, channel_dim=-1)

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The weight."""
        return [] if self.binary.weight is None else [("weight", self.weight, self.binary.weight)]

    def constrain(self) -> None:
        """Apply the constraints of the latent weight and of the learned scales."""
        if self.binary.weight is not None:
            self.binary.weight.constrain(self.weight)
        for activation in (self.binary.activation1, self.binary.activation2):
            if activation is not None:
                activation.constrain()

    def binary_tensors(self) -> dict[str, Tensor]:
        """The weight as deployment has it."""
        with torch.no_grad():
            return {"weight": deployed_codes(self.binary.weight, self.weight).values()}


def _inner(met: Tensor, x1: Tensor) -> Tensor:
    """(..., out, in1) and (..., in1) -> (..., out)."""
    return (met @ x1.unsqueeze(-1)).squeeze(-1)


def _affine(x1: Codes, x2: Codes, w: Codes, bias: Tensor | None) -> Tensor:
    """The layer where operands have offsets (AdaBin): the first product from codes, the second from its values."""
    out, in1 = w.codes.shape[:2]

    def each_row(of_filter: Tensor | None) -> Tensor | None:
        return None if of_filter is None else of_filter.view(-1, 1).expand(out, in1).reshape(-1, 1)

    rows = Codes(w.codes.flatten(0, 1), each_row(w.scale), w.kind, each_row(w.offset))
    met = linear(x2, rows, None).unflatten(-1, (out, in1))
    result = multiply(_inner, Codes(met), x1._replace(scale=None, offset=None))
    result = result if x1.scale is None else result * x1.scale
    result = result if x1.offset is None else result + x1.offset * met.sum(-1)
    return as_operand(result if bias is None else result + bias, x1)

"""The product of two activations, as a layer that rules can name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.codes import Codes
from bnnapps.nn.layers.attention import product_of
from bnnapps.nn.layers.base import BinaryLayer, Parts
from bnnapps.nn.layers.operands import activation_binarizer, codes_of
from bnnapps.nn.spec import MatmulSpec


class Matmul(nn.Module):
    """left @ right, as `torch.matmul`, for a product of a model's own that is to become binary.

    Put it where the model multiplies two activations (`self.scores = Matmul()`, one for each product), and rules reach
    it by name or as `types: [matmul]`. It has no parameters.

    Args:
        device, dtype: where what a method learns is made; they follow the model's `.to()`.

    Inputs:
        left: (..., L, K).
        right: (..., K, N).
        mask: boolean, broadcastable to `left`; where it is false the element of `left` counts as 0, so that what it
            is multiplied with leaves no trace. A mask of shape (..., 1, K) hides positions of the sum.

    Returns:
        (..., L, N).

    """

    like: Tensor

    def __init__(self, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.register_buffer("like", torch.empty(0, device=device, dtype=dtype), persistent=False)

    def forward(self, left: Tensor, right: Tensor, mask: Tensor | None = None) -> Tensor:
        """The product."""
        if mask is not None:
            left = left.masked_fill(~mask, 0.0)
        return torch.matmul(left, right)


class MatmulParts(Parts):
    """The binarizers of both operands; `None` keeps that operand real."""

    left: ActivationBinarizer | None
    right: ActivationBinarizer | None

    def __init__(self, spec: MatmulSpec, like: Tensor) -> None:
        super().__init__()
        self.left = activation_binarizer(spec.left, 1, like)
        self.right = activation_binarizer(spec.right, 1, like)


class BinaryMatmul(BinaryLayer[MatmulSpec], Matmul):
    """s (codes(left) @ codes(right)): the product of codes is exact, the scales multiply it afterwards.

    A masked element of `left` has the code 0, whatever its codes are otherwise, so what is masked adds exactly nothing.

    Args:
        device, dtype: as in `Matmul`.
        spec: the parts; without one, both operands are signs.

    """

    replaces = Matmul
    binary: MatmulParts

    def __init__(self, device: Any = None, dtype: Any = None, *, spec: MatmulSpec | None = None) -> None:
        super().__init__(device, dtype)
        spec = MatmulSpec() if spec is None else spec
        self.attach(spec, self.make_parts(spec))

    def make_parts(self, spec: MatmulSpec) -> MatmulParts:
        """The binarizers for this product."""
        return MatmulParts(spec, self.like)

    def forward(self, left: Tensor, right: Tensor, mask: Tensor | None = None) -> Tensor:
        """The binary product."""
        a, b = codes_of(self.binary.left, left), codes_of(self.binary.right, right)
        return product_of(a if mask is None else masked(a, mask), b)

    def constrain(self) -> None:
        """Keep learned scales positive."""
        for binarizer in (self.binary.left, self.binary.right):
            if binarizer is not None:
                binarizer.constrain()


def masked(operand: Codes, mask: Tensor) -> Codes:
    """The operand with the code 0 where the mask is false: flags stay flags, signs become ternary."""
    codes = operand.codes.masked_fill(~mask, 0.0)
    return operand._replace(codes=codes, kind="integer" if operand.kind == "sign" else operand.kind)

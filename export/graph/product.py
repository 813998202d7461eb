"""The deployed form of a product: constant codes on one side, or codes on both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bnnapps.export.graph.mark import mark
from bnnapps.nn.codes import Codes
from bnnapps.nn.functional.ones import conv_of_ones

EXACT_BELOW = 2**24
"""Float32 holds every integer up to here; a sum of codes that stays under it is exact in any order."""

LONGEST = 2**16
"""The longest sequence for which the products of an attention are promised to be exact."""


class Product(nn.Module):
    """What all products share: a name, and whether their sums are exact integers.

    Attributes:
        site: the name of this product in the exported file.
        terms: how many products one output sums up; `None` where they are positions of a sequence.
        exact: whether both operands are codes and |sum| stays under 2^24.

    """

    def __init__(self, site: str, terms: int | None, *largest: int | None) -> None:
        super().__init__()
        self.site = site
        self.terms = terms
        bound = LONGEST if terms is None else terms
        for one in largest:
            bound *= 0 if one is None else one
        self.exact = None not in largest and bound < EXACT_BELOW

    def marked(self, product: Tensor) -> Tensor:
        """The product, under its name if it is exact: there the barrier goes."""
        return mark(product, self.site, "product") if self.exact else product

    def extra_repr(self) -> str:
        """The site."""
        return self.site


class Dense(Product):
    """codes @ W^T, with the codes of the weight stored as (in, out)."""

    weight: Tensor
    sums: Tensor

    def __init__(self, site: str, weight: Codes, activation: int | None) -> None:
        super().__init__(site, weight.codes.shape[1], largest_code(weight), activation)
        codes = weight.codes.detach()
        # A real weight keeps its layout: another one could round its sums differently.
        self.outputs = codes.shape[0]
        self.register_buffer("weight", codes.t().contiguous() if self.exact else codes.clone())
        self.register_buffer("sums", codes.sum(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """The product of shape (..., out)."""
        return self.marked(torch.matmul(x, self.weight)) if self.exact else F.linear(x, self.weight)

    def of_ones(self, x: Tensor) -> Tensor:
        """The product of a row of ones, shape (out,)."""
        return self.sums


class Convolution(Product):
    """A convolution of codes; the border is made first unless it is zero.

    Args:
        site: its name.
        weight: the codes of the weight.
        activation: the largest |code| of the map.
        conv: the layer, for its stride, padding, dilation, groups and padding mode.
        border: what constant padding puts around the map of codes.

    """

    weight: Tensor
    sums: Tensor

    def __init__(self, site: str, weight: Codes, activation: int | None, conv: _ConvNd, border: float) -> None:
        codes = weight.codes.detach()
        super().__init__(site, codes[0].numel(), largest_code(weight), activation)
        self.outputs = codes.shape[0]
        self.register_buffer("weight", codes.contiguous().clone())
        self.register_buffer("sums", codes.sum(dim=1))
        self.geometry = conv.stride, conv.dilation, conv.groups
        self.padding = conv.padding
        self.padding_mode = conv.padding_mode
        self.border = border
        self.sides: Sequence[int] = conv._reversed_padding_repeated_twice

    def forward(self, x: Tensor) -> Tensor:
        """The product of shape (N, O, ...)."""
        return self.marked(self._convolved(x))

    def of_constant(self, sums: Tensor, x: Tensor) -> Tensor:
        """The product of a map of the size of x, constant in each channel: `sums` is that of each tap, (O, ...)."""
        stride, dilation, _ = self.geometry
        sides = self.sides if self.padding_mode == "zeros" else [0] * len(self.sides)
        return conv_of_ones(sums, x.shape[2:], stride, dilation, sides)

    def of_ones(self, x: Tensor) -> Tensor:
        """The product of a map of ones of the size of x, (O, ...); a border of codes becomes ones too."""
        stride, dilation, _ = self.geometry
        sides = self.sides if self.padding_mode == "zeros" and self.border == 0 else [0] * len(self.sides)
        return conv_of_ones(self.sums, x.shape[2:], stride, dilation, sides)

    def _convolved(self, x: Tensor) -> Tensor:
        stride, dilation, groups = self.geometry
        padding: Any = 0
        if self.padding_mode != "zeros":
            x = F.pad(x, self.sides, mode=self.padding_mode)
        elif self.border != 0:
            x = F.pad(x, self.sides, value=self.border)
        else:
            padding = self.padding
        return convolve(x, self.weight, stride, padding, dilation, groups)


class TransposedConvolution(Product):
    """A transposed convolution of codes; its weight lies as the layer holds it, (C, O / groups, ...).

    Args:
        site: its name.
        weight: the codes of the weight, (C, O / groups, ...).
        activation: the largest |code| of the map, or `None`.
        largest: of the weight, or `None`.
        conv: the layer, for its geometry.

    """

    weight: Tensor
    sums: Tensor

    def __init__(
        self, site: str, weight: Tensor, activation: int | None, largest: int | None, conv: _ConvTransposeNd
    ) -> None:
        terms = weight.shape[0] // conv.groups * weight[0, 0].numel()
        super().__init__(site, terms, largest, activation)
        self.outputs = weight.shape[1] * conv.groups
        self.register_buffer("weight", weight.contiguous().clone())
        self.register_buffer("sums", weight.unflatten(0, (conv.groups, -1)).sum(dim=1).flatten(0, 1).unsqueeze(0))
        layer: Any = conv  # PyTorch types its sizes as lists, and holds tuples
        self.stride, self.padding, self.dilation, self.groups = layer.stride, layer.padding, layer.dilation, conv.groups
        self.extra: Sequence[int] = layer.output_padding

    def forward(self, x: Tensor, extra: Sequence[int] | None = None) -> Tensor:
        """The product of shape (N, O, ...), its ends longer by `extra`; without it, by as much as the last time."""
        if extra is None:
            extra = self.extra
        elif not torch.compiler.is_compiling():
            self.extra = tuple(extra)
        return self.marked(self._convolved(x, self.weight, self.groups, extra))

    def of_ones(self, x: Tensor, extra: Sequence[int]) -> Tensor:
        """The product of a map of ones of the size of x, shape (1, O, ...): every channel of a group adds the same."""
        return self._convolved(torch.ones_like(x[:1, :1]), self.sums, 1, extra)

    def _convolved(self, x: Tensor, weight: Tensor, groups: int, extra: Sequence[int]) -> Tensor:
        operator = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[weight.dim()]
        size: Any = list(extra)
        result: Tensor = operator(x, weight, None, self.stride, self.padding, size, groups, self.dilation)
        return result


class Pairwise(Product):
    """The product of two activations: left @ right, or left @ right^T."""

    def __init__(
        self, site: str, terms: int | None, left: int | None, right: int | None, transpose: bool = False
    ) -> None:
        super().__init__(site, terms, left, right)
        self.transpose = transpose

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """The product over the last dimension of left."""
        left, right = left.contiguous(), right.contiguous()
        return self.marked(torch.matmul(left, right.transpose(-1, -2) if self.transpose else right))


def largest_code(weight: Codes) -> int | None:
    """The largest |code| of a weight, or `None` where it is real."""
    return None if weight.kind == "real" else 1


def convolve(x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> Tensor:
    """A convolution in as many dimensions as the weight has."""
    operator = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[weight.dim()]
    result: Tensor = operator(x, weight, None, stride, padding, dilation, groups)
    return result

"""The deployed forms of linear, convolutional and embedding layers: constant codes, scales, primitive operators."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.export.graph.product import Convolution, Dense, convolve
from bnnapps.export.graph.quantizer import Quantizer
from bnnapps.nn.codes import Codes
from bnnapps.nn.layers import BinaryConv1d, BinaryConv2d, BinaryConv3d, BinaryEmbedding, BinaryLinear
from bnnapps.nn.layers.operands import LinearParts, codes_of

BinaryConv = BinaryConv1d | BinaryConv2d | BinaryConv3d


class Scales(nn.Module):
    """scale_x * scale_w * product + bias, in the order in which the binary layers compute it.

    Where both scales are constants, so is their product.

    Args:
        weight: the scale of the weight, shape (O, 1, ...), or `None`.
        activation: alpha of the activation, or `None`; one that depends on the input is handed to `forward`.
        bias: shape (O,), or `None`.
        trailing: how many dimensions follow the channels.

    """

    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, weight: Tensor | None, activation: Tensor | None, bias: Tensor | None, trailing: int) -> None:
        super().__init__()
        shape = (-1,) + (1,) * trailing
        scale = None if weight is None else weight.detach().reshape(shape)
        if activation is not None:
            scale = activation.reshape(shape) if scale is None else activation.reshape(shape) * scale
        self.register_buffer("scale", None if scale is None else scale.clone())
        self.register_buffer("bias", None if bias is None else bias.detach().reshape(shape).clone())

    def forward(self, product: Tensor, input_scale: Tensor | None = None) -> Tensor:
        """The scaled product."""
        scale = self.scale
        if input_scale is not None:
            scale = input_scale if scale is None else input_scale * scale
        result = product if scale is None else product * scale
        return result if self.bias is None else result + self.bias


class DeployedLinear(nn.Module):
    """A binary linear layer as it is deployed, shapes (..., in) -> (..., out)."""

    def __init__(self, site: str, parts: LinearParts, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        codes = codes_of(parts.weight, weight.detach())
        self.in_features, self.out_features = weight.shape[1], weight.shape[0]
        self.activation = Quantizer(site, parts.activation)
        self.product = Dense(site, codes, self.activation.largest)
        self.scales = Scales(codes.scale, self.activation.alpha, bias, trailing=0)

    @property
    def weight(self) -> Tensor:
        """The codes of the weight, (out, in): some models look at the dtype of a layer's weight."""
        return self.product.weight.t() if self.product.exact else self.product.weight

    def forward(self, x: Tensor) -> Tensor:
        """The binary product, scaled."""
        product = self.product(self.activation(x))
        dynamic = None if self.activation.alpha is not None else self.activation.row_scale(x)
        return self.scales(product, dynamic)  # type: ignore[no-any-return]


class DeployedConv(nn.Module):
    """A binary convolution as it is deployed, shapes (N, C, ...) -> (N, O, ...)."""

    box: Tensor | None

    def __init__(self, site: str, conv: BinaryConv) -> None:
        super().__init__()
        parts = conv.binary
        codes = codes_of(parts.weight, conv.weight.detach())
        border = 0.0 if parts.activation is None else float(conv.spec.pad_value)
        self.activation = Quantizer(site, parts.activation)
        self.product = Convolution(site, codes, self.activation.largest, conv, border)
        self.scales = Scales(codes.scale, self.activation.alpha, conv.bias, trailing=len(conv.kernel_size))
        self.register_buffer("box", _box(conv))

    @property
    def weight(self) -> Tensor:
        """The codes of the weight, (O, C / groups, ...)."""
        return self.product.weight

    def forward(self, x: Tensor) -> Tensor:
        """The binary convolution, scaled."""
        product = self.product(self.activation(x))
        return self.scales(product, self._input_map(x))  # type: ignore[no-any-return]

    def _input_map(self, x: Tensor) -> Tensor | None:
        """K of XNOR-Net: the mean |x| over the channels, averaged over each window."""
        if self.box is None:
            return None
        product = self.product
        stride, dilation, _ = product.geometry
        magnitude = x.abs().mean(dim=1 - self.box.dim(), keepdim=True)
        padding: Any = product.padding
        if product.padding_mode != "zeros":
            magnitude, padding = F.pad(magnitude, product.sides, mode=product.padding_mode), 0
        return convolve(magnitude, self.box, stride, padding, dilation, 1)


def _box(conv: BinaryConv) -> Tensor | None:
    """The box filter of `scale: input_map`, as `_BinaryConv` makes it."""
    activation = conv.binary.activation
    if activation is None or activation.spec.scale != "input_map":
        return None
    taps = conv.weight[0, 0].numel()
    return torch.full((1, 1, *conv.kernel_size), 1.0 / taps, device=conv.weight.device, dtype=conv.weight.dtype)


class DeployedEmbedding(nn.Module):
    """A binary embedding as it is deployed: a table of codes, one byte each, and one scale a row (or for all)."""

    codes: Tensor
    scale: Tensor | None

    def __init__(self, embedding: BinaryEmbedding) -> None:
        super().__init__()
        table = _table(embedding)
        real = table.kind == "real"
        self.num_embeddings, self.embedding_dim = table.codes.shape
        self.padding_idx = embedding.padding_idx
        self.register_buffer("codes", table.codes.clone() if real else table.codes.to(torch.int8))
        self.register_buffer("scale", None if table.scale is None else table.scale.clone())

    @property
    def weight(self) -> Tensor:
        """The codes of the table."""
        return self.codes

    def forward(self, indices: Tensor) -> Tensor:
        """The rows."""
        rows = F.embedding(indices, self.codes).to(torch.float32)
        if self.scale is None:
            return rows
        scale = self.scale if self.scale.numel() == 1 else F.embedding(indices, self.scale)
        return rows * scale


@torch.no_grad()
def _table(embedding: BinaryEmbedding) -> Codes:
    codes, scale, kind = embedding.binary.weight(embedding.weight.detach())
    if scale is not None:
        scale = scale.reshape(1) if scale.numel() == 1 else scale.reshape(-1, 1)
    return Codes(codes, scale, kind)


def deployed_linear(site: str, layer: BinaryLinear) -> DeployedLinear:
    """The deployed form of a binary linear layer."""
    return DeployedLinear(site, layer.binary, layer.weight, layer.bias)

"""The deployed forms of linear, convolutional and embedding layers: constant codes, scales, primitive operators."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.export.graph.dual import second_sign
from bnnapps.export.graph.product import Convolution, Dense, TransposedConvolution, convolve
from bnnapps.export.graph.quantizer import Quantizer
from bnnapps.nn.codes import Codes
from bnnapps.nn.layers import BinaryConv1d, BinaryConv2d, BinaryConv3d, BinaryEmbedding, BinaryLinear
from bnnapps.nn.layers.linear_like import BinaryLinearLike
from bnnapps.nn.layers.operands import LinearParts, codes_of

BinaryConv = BinaryConv1d | BinaryConv2d | BinaryConv3d
AnyProduct = Dense | Convolution | TransposedConvolution


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


class Offsets(nn.Module):
    """What the offsets of two-level operands (AdaBin) add to the scaled product of codes.

    With s and o the scale and offset of x and w: o_x s_w P(1, w) + o_w (s_x P(x, 1) + o_x P(1, 1)), as
    `bnnapps.nn.codes.affine_product` computes it.

    Args:
        weight: codes, scale and offset of the weight.
        activation: the quantizer of the input.
        sums: the product with one filter of ones for each group.
        trailing: how many dimensions follow the channels.

    """

    alpha: Tensor | None
    beta: Tensor | None
    weight_scale: Tensor | None
    weight_offset: Tensor | None

    def __init__(self, weight: Codes, activation: Quantizer, sums: AnyProduct, trailing: int) -> None:
        super().__init__()
        self.sums = None if weight.offset is None else sums
        self.repeats = weight.codes.shape[0] // sums.outputs
        self.channel_dim = -1 - trailing
        shape = (-1,) + (1,) * trailing
        self.register_buffer("alpha", activation.alpha)
        self.register_buffer("beta", activation.beta)
        for name, value in (("weight_scale", weight.scale), ("weight_offset", weight.offset)):
            self.register_buffer(name, None if value is None else value.detach().reshape(shape).clone())

    def forward(self, result: Tensor, codes: Tensor, product: Any, *extra: Any) -> Tensor:
        """The result of `product` for these codes, with what the offsets add to it; `extra` is handed to products."""
        if self.beta is not None:
            constant = product.of_ones(codes, *extra)
            result = result + self.beta * (constant if self.weight_scale is None else constant * self.weight_scale)
        if self.sums is not None:
            sums = self.sums(codes, *extra)
            sums = sums if self.alpha is None else sums * self.alpha
            if self.beta is not None:
                sums = sums + self.beta * self.sums.of_ones(codes, *extra)
            result = result + self.weight_offset * sums.repeat_interleave(self.repeats, dim=self.channel_dim)
        return result


def offsets_of(weight: Codes, activation: Quantizer, sums: AnyProduct, trailing: int) -> Offsets | None:
    """What offsets add, or `None` where neither operand has one."""
    if weight.offset is None and activation.beta is None:
        return None
    return Offsets(weight, activation, sums, trailing)


class DeployedLinear(nn.Module):
    """A binary linear layer as it is deployed, shapes (..., in) -> (..., out)."""

    bias: Tensor | None

    def __init__(self, site: str, parts: LinearParts, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        codes = codes_of(parts.weight, weight.detach())
        self.in_features, self.out_features = weight.shape[1], weight.shape[0]
        self.activation = Quantizer(site, parts.activation)
        self.product = Dense(site, codes, self.activation.largest)
        self.scales = Scales(codes.scale, self.activation.alpha, None if late_bias(parts, codes) else bias, trailing=0)
        ones = Codes(weight.new_ones(1, weight.shape[1]), kind="sign")
        self.offsets = offsets_of(codes, self.activation, Dense(f"{site}/sums", ones, self.activation.largest), 0)
        second = Dense(f"{site}/second", codes, self.activation.largest)
        self.second = second_sign(site, parts.activation, codes, second, trailing=0)
        self.output = parts.output
        self.register_buffer("bias", bias.detach().clone() if late_bias(parts, codes) and bias is not None else None)

    @property
    def weight(self) -> Tensor:
        """The codes of the weight, (out, in): some models look at the dtype of a layer's weight."""
        return self.product.weight.t() if self.product.exact else self.product.weight

    def forward(self, x: Tensor) -> Tensor:
        """The binary product, scaled."""
        codes = self.activation(x)
        product = self.product(codes)
        dynamic = None if self.activation.alpha is not None else self.activation.row_scale(x)
        return finished(self, self.scales(product, dynamic), codes, x)


class DeployedConv(nn.Module):
    """A binary convolution as it is deployed, shapes (N, C, ...) -> (N, O, ...)."""

    box: Tensor | None
    bias: Tensor | None

    def __init__(self, site: str, conv: BinaryConv) -> None:
        super().__init__()
        parts = conv.binary
        codes = codes_of(parts.weight, conv.weight.detach())
        border = 0.0 if parts.activation is None else float(conv.spec.pad_value)
        self.activation = Quantizer(site, parts.activation)
        self.product = Convolution(site, codes, self.activation.largest, conv, border)
        trailing = len(conv.kernel_size)
        bias = conv.bias
        self.scales = Scales(codes.scale, self.activation.alpha, None if late_bias(parts, codes) else bias, trailing)
        ones = Codes(conv.weight.new_ones(conv.groups, *conv.weight.shape[1:]), kind="sign")
        sums = Convolution(f"{site}/sums", ones, self.activation.largest, conv, border)
        self.offsets = offsets_of(codes, self.activation, sums, trailing)
        second = Convolution(f"{site}/second", codes, self.activation.largest, conv, border)
        self.second = second_sign(site, parts.activation, codes, second, trailing)
        self.output = parts.output
        late = late_bias(parts, codes) and bias is not None
        self.register_buffer("bias", bias.detach().view(-1, *[1] * trailing).clone() if late else None)  # type: ignore[union-attr]
        self.register_buffer("box", _box(conv))

    @property
    def weight(self) -> Tensor:
        """The codes of the weight, (O, C / groups, ...)."""
        return self.product.weight

    def forward(self, x: Tensor) -> Tensor:
        """The binary convolution, scaled."""
        codes = self.activation(x)
        product = self.product(codes)
        return finished(self, self.scales(product, self._dynamic(x)), codes, x)

    def _dynamic(self, x: Tensor) -> Tensor | None:
        """The scale that depends on the input: K of XNOR-Net, or one number a sample."""
        spec = self.activation.spec
        if spec is not None and spec.scale == "sample":
            return self.activation.row_scale(x)
        return self._input_map(x)

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


def late_bias(parts: LinearParts, weight: Codes) -> bool:
    """Whether more than scales come between the product and the bias."""
    return parts.output is not None or weight.offset is not None or _has_offset(parts)


def _has_offset(parts: LinearParts) -> bool:
    return parts.activation is not None and parts.activation.spec.scale == "affine"


def finished(layer: Any, result: Tensor, codes: Tensor, x: Tensor, *extra: Any) -> Tensor:
    """Offsets, a second sign, the output scale and the bias behind it, on the scaled product."""
    if layer.offsets is not None:
        result = layer.offsets(result, codes, layer.product, *extra)
    second = getattr(layer, "second", None)
    if second is not None:
        result = second(result, codes, x)
    if layer.output is not None:
        result = layer.output(result, x)
    shifted: Tensor = result if layer.bias is None else result + layer.bias
    return shifted


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
    offset: Tensor | None

    def __init__(self, embedding: BinaryEmbedding) -> None:
        super().__init__()
        table = _table(embedding)
        real = table.kind == "real"
        self.num_embeddings, self.embedding_dim = table.codes.shape
        self.padding_idx = embedding.padding_idx
        self.register_buffer("codes", table.codes.clone() if real else table.codes.to(torch.int8))
        self.register_buffer("scale", None if table.scale is None else table.scale.clone())
        self.register_buffer("offset", None if table.offset is None else table.offset.clone())

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
        rows = rows * scale
        return rows if self.offset is None else rows + F.embedding(indices, self.offset)


@torch.no_grad()
def _table(embedding: BinaryEmbedding) -> Codes:
    table: Codes = embedding.binary.weight(embedding.weight.detach())
    scale, offset = table.scale, table.offset
    if scale is not None:
        scale = scale.reshape(1) if scale.numel() == 1 and offset is None else scale.reshape(-1, 1)
    return table._replace(scale=scale, offset=None if offset is None else offset.reshape(-1, 1))


def deployed_linear(site: str, layer: BinaryLinear | BinaryLinearLike) -> DeployedLinear:
    """The deployed form of a binary linear layer."""
    return DeployedLinear(site, layer.binary, matrix_of(layer), layer.bias)


def matrix_of(layer: BinaryLinear | BinaryLinearLike) -> Tensor:
    """The latent weight of a linear layer with one filter a row, (out, in)."""
    return layer.matrix if isinstance(layer, BinaryLinearLike) else layer.weight

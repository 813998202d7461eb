"""The deployed form of a transposed convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.export.graph.layers import Scales, finished, late_bias, offsets_of
from bnnapps.export.graph.product import TransposedConvolution, largest_code
from bnnapps.export.graph.quantizer import Quantizer
from bnnapps.nn.functional.transposed import swap_channels
from bnnapps.nn.layers import BinaryConvTranspose1d, BinaryConvTranspose2d, BinaryConvTranspose3d
from bnnapps.nn.layers.operands import codes_of

BinaryConvTranspose = BinaryConvTranspose1d | BinaryConvTranspose2d | BinaryConvTranspose3d


class DeployedConvTranspose(nn.Module):
    """A binary transposed convolution as it is deployed, shapes (N, C, ...) -> (N, O, ...), or without N."""

    box: Tensor | None
    bias: Tensor | None

    def __init__(self, site: str, conv: BinaryConvTranspose) -> None:
        super().__init__()
        parts = conv.binary
        codes = codes_of(parts.weight, conv.weight.detach())
        largest = largest_code(codes)
        self.activation = Quantizer(site, parts.activation)
        held = conv.weight.detach() if codes.kind == "real" else swap_channels(codes.codes, conv.groups)
        self.product = TransposedConvolution(site, held, self.activation.largest, largest, conv)
        layer: Any = conv  # PyTorch types its sizes as lists, and holds tuples
        self.output_padding: tuple[int, ...] = layer.output_padding
        self.reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        trailing = len(conv.kernel_size)
        late = late_bias(parts, codes)
        self.scales = Scales(codes.scale, self.activation.alpha, None if late else conv.bias, trailing)
        ones = conv.weight.new_ones(conv.in_channels, 1, *conv.kernel_size)
        sums = TransposedConvolution(f"{site}/sums", ones, self.activation.largest, 1, conv)
        self.offsets = offsets_of(codes, self.activation, sums, trailing)
        self.output = parts.output
        bias = conv.bias.detach().view(-1, *[1] * trailing).clone() if late and conv.bias is not None else None
        self.register_buffer("bias", bias)
        maps = parts.activation is not None and parts.activation.spec.scale == "input_map"
        self.register_buffer("box", conv.weight.new_ones(1, 1, *conv.kernel_size) if maps else None)

    @property
    def weight(self) -> Tensor:
        """The codes of the weight, (C, O / groups, ...)."""
        return self.product.weight

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The binary transposed convolution, scaled."""
        batched = x.dim() == self.weight.dim()
        real = x if batched else x.unsqueeze(0)
        extra = self._extra(real, output_size)
        codes = self.activation(real)
        product = self.product(codes, extra)
        result = finished(self, self.scales(product, self._dynamic(real, extra)), codes, real, extra)
        return result if batched else result.squeeze(0)

    def _extra(self, x: Tensor, output_size: list[int] | None) -> list[int]:
        """How much longer the ends are: the layer's own, or what leads to the size that is asked for."""
        if output_size is None:
            return list(self.output_padding)
        product, dims = self.product, len(self.reach)
        shortest = [
            (n - 1) * s - 2 * p + r
            for n, s, p, r in zip(x.shape[2:], product.stride, product.padding, self.reach, strict=True)
        ]
        return [wanted - least for wanted, least in zip(output_size[-dims:], shortest, strict=True)]

    def _dynamic(self, x: Tensor, extra: list[int]) -> Tensor | None:
        """The scale that depends on the input: K of XNOR-Net, one number a sample, or none."""
        spec = self.activation.spec
        if spec is not None and spec.scale == "sample":
            return self.activation.row_scale(x)
        if self.box is None:
            return None
        magnitude = x.abs().mean(dim=1, keepdim=True)
        reached = self._boxed(torch.ones_like(magnitude[:1]), self.box, extra)
        return self._boxed(magnitude, self.box, extra) / reached.clamp(min=1)

    def _boxed(self, x: Tensor, box: Tensor, extra: list[int]) -> Tensor:
        product = self.product
        size: Any = extra
        operator = {
            3: nn.functional.conv_transpose1d,
            4: nn.functional.conv_transpose2d,
            5: nn.functional.conv_transpose3d,
        }[product.weight.dim()]
        result: Tensor = operator(x, box, None, product.stride, product.padding, size, 1, product.dilation)
        return result

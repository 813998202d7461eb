"""Binary convolutions in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bnnapps.kernels.calls import Geometry, is_channels_last
from bnnapps.nn import functional as BF
from bnnapps.nn.codes import Codes, affine_product, combined, multiply, rescale
from bnnapps.nn.functional.ones import OnesProducts, channel_sums, conv_of_ones, sums_with, wide
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.layers.operands import LinearParts
from bnnapps.nn.packed import packed_weight
from bnnapps.nn.spec import ConvSpec
from bnnapps.nn.weights import WeightBinarizer


class _BinaryConv(BinaryLayer[ConvSpec], _ConvNd):
    """y = s (codes(pad(x)) * codes(W)) + bias: a convolution whose operands are binary.

    The padding of the float layer (its size, its mode, "same") applies to the binarized map: constant padding puts
    `spec.pad_value` there, so 0 gives a third level at the border and -1 or +1 does not. Exact as `BinaryLinear` is.
    With `activation.scale: input_map` the output is multiplied by K, the box-filtered
    mean |x| over the channels (XNOR-Net, Rastegari et al., 2016).
    """

    convolve: ClassVar[Callable[..., Tensor]]
    binary: LinearParts

    def make_parts(self, spec: ConvSpec) -> LinearParts:
        """The binarizers for this layer."""
        return LinearParts(spec, self.weight, self.in_channels, channel_dim=-1 - len(self.kernel_size))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.Conv2d
        """The binary convolution; see the class."""
        bias = self.bias if self.spec.output is None else None
        result = self._product(input, bias)
        if self.binary.waits_for_data:
            self.binary.recover(result, self.weight, lambda weight: self._conv_forward(input, weight, None))
        result = self.binary.finish(result, input)
        if self.bias is None or bias is not None:
            return result
        return result + self.bias.view(-1, *[1] * len(self.kernel_size))

    def _product(self, real: Tensor, bias: Tensor | None) -> Tensor:
        """The product of both operands with their scales, and the bias: on bits where the kernels take it."""
        geometry = self._geometry(real)
        if geometry is not None:
            whole = real if real.dim() > 1 + len(self.kernel_size) else real.unsqueeze(0)
            results = whole.shape[0]
            for length in geometry.output(whole.shape[2:]):
                results *= max(0, length)
            if self.binary.on_bits(real, self.weight, self.weight[0].numel(), self.weight.numel() * results):
                result = self._on_bits(whole, bias, geometry)
                return result if whole is real else result.squeeze(0)
        x, w = self.binary.operands(real, self.weight, offsets=True)
        result = self._scaled(x._replace(codes=self._padded(x.codes, self._border_value)), w, bias, real)
        while x.rest is not None:
            x = x.rest
            if x.kind == "constant":
                result = result + self._of_constant(x.codes, w, real).to(result.dtype)
            else:
                codes = self._padded(x.codes, self._border_value)
                result = result + self._scaled(x._replace(codes=codes), w, None, real)
        return result

    def _on_bits(self, real: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        """As `_scaled`, by the kernels."""
        if torch.is_grad_enabled():
            return self._on_bits_trained(real, bias, geometry)
        x, x_scale, fused = self._compared(real)
        assert self.binary.weight is not None
        weight, keep = packed_weight(self.binary.weight, self.weight)
        last = is_channels_last(real) or is_channels_last(self.weight)
        scale = combined(x_scale, weight.scale) if fused else None
        result = BF.conv_of_bits(x, weight.bits, geometry, scale, bias if fused else None, last, keep)
        return result if fused else rescale(result, Codes(real, x_scale), Codes(real, weight.scale), bias, 1)

    # A compiled graph breaks here, as it does at the gradient of a sign.
    @BF.disable_compiler
    def _on_bits_trained(self, real: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        x, x_scale, fused = self._compared(real)
        assert self.binary.weight is not None
        w = self.binary.weight(self.weight)
        result = BF.conv_codes(x, w.codes, combined(x_scale, w.scale) if fused else None, geometry)
        left = (None, None) if fused else (x_scale, w.scale)
        return rescale(result, Codes(real, left[0]), Codes(real, left[1]), bias, 1)

    def _compared(self, real: Tensor) -> tuple[BF.Compared, Tensor | None, bool]:
        """The activation, its scale, and whether that is one number, not one for each position."""
        activation = self.binary.activation
        assert activation is not None
        x, scale = activation.compared(real)
        if activation.spec.scale == "input_map":
            scale = self._input_map(real)
        return x, scale, scale is None or scale.numel() == 1

    def _geometry(self, real: Tensor) -> Geometry | None:
        """What the kernels need to know; `None` for borders that they do not make."""
        activation = self.binary.activation
        dims = len(self.kernel_size)
        if activation is None or real.dim() not in (dims + 1, dims + 2) or real.shape[-1 - dims] != self.in_channels:
            return None
        border = self._border(real)
        if border is None:
            return None
        sizes = (self.kernel_size, self.stride, self.dilation, *border)
        return Geometry(self.in_channels, self.groups, *sizes, self.spec.pad_value, activation.spec.unsigned)

    def _border(self, real: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """How many positions of `spec.pad_value` stand before and behind the map, by dimension; `None` for others."""
        pairs = self._reversed_padding_repeated_twice
        begin, end = tuple(pairs[-2::-2]), tuple(pairs[-1::-2])
        # PyTorch pads by itself where both sides differ, and what its gradient then rounds to is its own affair.
        return (begin, end) if self.padding_mode == "zeros" and begin == end else None

    def _scaled(self, x: Codes, w: Codes, bias: Tensor | None, real: Tensor) -> Tensor:
        """The product of both operands with their scales, and the bias."""
        channel_dim = -1 - len(self.kernel_size)
        if x.offset is not None or w.offset is not None:
            result = affine_product(self._convolve, self._of_ones(x.codes), x, w, channel_dim)
            return result if bias is None else result + bias.view(-1, *[1] * len(self.kernel_size))
        product = multiply(self._convolve, x, w)
        if self.binary.activation is not None and self.binary.activation.spec.scale == "input_map":
            x = x._replace(scale=self._input_map(real))
        return rescale(product, x, w, bias, channel_dim)

    def _of_ones(self, codes: Tensor) -> OnesProducts:
        """The products with ones, for padded codes."""
        dims = len(self.kernel_size)
        sides = [0] * (2 * dims) if self._pads_outside else self._reversed_padding_repeated_twice

        def with_weight(weight: Tensor) -> Tensor:
            return conv_of_ones(wide(weight).sum(dim=1), codes.shape[-dims:], self.stride, self.dilation, sides)

        def with_input(x: Tensor) -> Tensor:
            sums = channel_sums(x, self.groups, -1 - dims)
            return self._convolve(sums, sums.new_ones(self.groups, 1, *self.kernel_size))

        ones = self.weight.new_ones(self.groups, *self.weight.shape[1:])
        return OnesProducts(with_weight, with_input, ones)

    def gives_integers(self) -> bool:
        """Whether every result is an integer below 2^15 times the scale of its channel, and nothing else."""
        weight, activation = self.binary.weight, self.binary.activation
        if weight is None or activation is None or self.bias is not None or self.spec.output is not None:
            return False
        plain = activation.spec.scale in ("none", "unit") and activation.spec.bits == 1 and not activation.spec.noise
        binary = weight.gives_signs and not weight.spec.noise
        return plain and binary and self.weight[0].numel() < 2**15

    def scale(self) -> Tensor | None:
        """The scale of each channel of the result, shape (O, 1, ...); `None` is 1."""
        scale = None if self.binary.weight is None else self.binary.weight.scale_of(self.weight.detach())
        return None if scale is None else scale.reshape(-1, *[1] * len(self.kernel_size))

    @property
    def _pads_outside(self) -> bool:
        """Whether the border is made before the convolution rather than by it."""
        return self.padding_mode != "zeros" or (self.binary.activation is not None and self.spec.pad_value != 0)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        padding = 0 if self._pads_outside else self.padding
        return type(self).convolve(x, weight, None, self.stride, padding, self.dilation, self.groups)

    @property
    def _border_value(self) -> float:
        """What stands in the border of a map of codes."""
        return 0.0 if self.binary.activation is None else float(self.spec.pad_value)

    def _padded(self, codes: Tensor, value: float) -> Tensor:
        if not self._pads_outside:
            return codes
        border = self._reversed_padding_repeated_twice
        if self.padding_mode != "zeros":
            return F.pad(codes, border, mode=self.padding_mode)
        return F.pad(codes, border, value=value)

    def _of_constant(self, constant: Tensor, w: Codes, real: Tensor) -> Tensor:
        """The scaled product of a map that is constant in each channel; zeros of the float layer's border are zeros."""
        dims = len(self.kernel_size)
        sums = sums_with(w.codes, constant.reshape(-1), self.groups)
        result = conv_of_ones(sums, real.shape[-dims:], self.stride, self.dilation, self._zeros_around(real))
        return result if w.scale is None else result * w.scale.reshape(-1, *[1] * dims)

    def _zeros_around(self, real: Tensor) -> Sequence[int]:
        """How many zeros the float layer puts around a map, the last direction first."""
        sides: Sequence[int] = self._reversed_padding_repeated_twice
        return sides if self.padding_mode == "zeros" else [0] * len(sides)

    def _input_map(self, x: Tensor) -> Tensor:
        """K: the mean |x| over the channels, averaged over each window; no gradient."""
        dims = len(self.kernel_size)
        with torch.no_grad():
            magnitude = x.detach().abs().mean(dim=-1 - dims, keepdim=True)
            if self.padding_mode != "zeros":
                magnitude = F.pad(magnitude, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            taps = self.weight[0, 0].numel()
            box = torch.full((1, 1, *self.kernel_size), 1.0 / taps, device=x.device, dtype=x.dtype)
            padding = 0 if self.padding_mode != "zeros" else self.padding
            return type(self).convolve(magnitude, box, None, self.stride, padding, self.dilation, 1)

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The weight."""
        return self.binary.latent("weight", self.weight)

    def constrain(self) -> None:
        """Apply the constraints of the latent weight and of the learned scale."""
        self.binary.constrain(self.weight)

    def binary_tensors(self) -> dict[str, Tensor]:
        """The weight as deployment has it."""
        return {"weight": self.binary.deployed(self.weight)}


def _init(self: Any, base: type[_ConvNd], args: tuple[Any, ...], spec: ConvSpec | None) -> None:
    base.__init__(self, *args)
    spec = ConvSpec() if spec is None else spec
    self.attach(spec, self.make_parts(spec))


class BinaryConv1d(_BinaryConv, nn.Conv1d):
    """Binary convolution over (N, C, L); see `_BinaryConv`. Arguments as in `nn.Conv1d`, plus `spec`."""

    replaces = nn.Conv1d
    convolve = staticmethod(F.conv1d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Any = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        spec: ConvSpec | None = None,
    ) -> None:
        args = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        _init(self, nn.Conv1d, (*args, device, dtype), spec)


class BinaryConv2d(_BinaryConv, nn.Conv2d):
    """Binary convolution over (N, C, H, W); see `_BinaryConv`. Arguments as in `nn.Conv2d`, plus `spec`."""

    replaces = nn.Conv2d
    convolve = staticmethod(F.conv2d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Any = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        spec: ConvSpec | None = None,
    ) -> None:
        args = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        _init(self, nn.Conv2d, (*args, device, dtype), spec)


class BinaryConv3d(_BinaryConv, nn.Conv3d):
    """Binary convolution over (N, C, D, H, W); see `_BinaryConv`. Arguments as in `nn.Conv3d`, plus `spec`."""

    replaces = nn.Conv3d
    convolve = staticmethod(F.conv3d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Any = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        spec: ConvSpec | None = None,
    ) -> None:
        args = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        _init(self, nn.Conv3d, (*args, device, dtype), spec)

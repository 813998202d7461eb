"""Binary transposed convolutions in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, _ConvTransposeNd

from bnnapps.errors import BinarizeError
from bnnapps.nn.codes import Codes, affine_product, multiply, rescale
from bnnapps.nn.functional.ones import OnesProducts, channel_sums, wide
from bnnapps.nn.functional.transposed import reach, swap_channels
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.layers.operands import LinearParts, deployed_codes
from bnnapps.nn.layers.refusals import single_codes
from bnnapps.nn.spec import ConvSpec, WeightSpec
from bnnapps.nn.weights import WeightBinarizer


class TransposedWeightBinarizer(WeightBinarizer):
    """`WeightBinarizer` for the weight of a transposed convolution, whose filters are not on dimension 0.

    It takes the weight as the layer holds it, (in, out / groups, ...), and gives codes and scale with the filters
    first, (out, in / groups, ...), so that statistics run over what one output channel multiplies.
    """

    def __init__(self, spec: WeightSpec, weight: Tensor, groups: int) -> None:
        with torch.enable_grad():  # a view of the weight is to say whether it trains
            super().__init__(spec, swap_channels(weight, groups))
        self.groups = groups

    def filters_first(self, weight: Tensor) -> Tensor:
        """The weight with one filter an entry of dimension 0."""
        return swap_channels(weight, self.groups)

    def forward(self, weight: Tensor, whole: Tensor | None = None, noisy: bool = True) -> Codes:
        """Codes and scale, filters first."""
        return super().forward(self.filters_first(weight), whole, noisy)

    @torch.no_grad()
    def constrain(self, weight: Tensor) -> None:
        """Apply the constraint to the latent weight, in place."""
        if self.spec.constraint != "none":
            filters = self.filters_first(weight).clone()
            super().constrain(filters)
            weight.copy_(swap_channels(filters, self.groups))

    def start_from(self, weight: Tensor) -> None:
        """Split `weight` afresh."""
        super().start_from(self.filters_first(weight))

    @torch.no_grad()
    def merge_into(self, weight: Tensor) -> None:
        """Give a split weight back as one."""
        if self.spec.kind == "split":
            filters = self.filters_first(weight).clone()
            super().merge_into(filters)
            weight.copy_(swap_channels(filters, self.groups))


class ConvTransposeParts(LinearParts):
    """The binarizers of a transposed convolution."""

    weight: TransposedWeightBinarizer | None

    def __init__(self, spec: ConvSpec, layer: _ConvTransposeNd) -> None:
        groups, dims = layer.groups, len(layer.kernel_size)
        super().__init__(spec, swap_channels(layer.weight.detach(), groups), layer.in_channels, -1 - dims)
        if spec.weight is not None:
            self.weight = TransposedWeightBinarizer(spec.weight, layer.weight, groups)

    def operands(self, x: Tensor, weight: Tensor, offsets: bool = False) -> tuple[Codes, Codes]:
        """Both operands; the codes of the weight lie as the layer holds it, its scale has the filters first."""
        left, right = super().operands(x, weight, offsets)
        if self.weight is None:
            return left, right
        return left, right._replace(codes=swap_channels(right.codes, self.weight.groups))

    def deployed(self, weight: Tensor) -> Tensor:
        """scale * code (+ offset) of the weight, no gradient."""
        if self.weight is None:
            return weight.detach()
        return swap_channels(deployed_codes(self.weight, weight).values(), self.weight.groups).detach()


class _BinaryConvTranspose(BinaryLayer[ConvSpec], _ConvTransposeNd):
    """y = s (codes(x) convT codes(W)) + bias: a transposed convolution whose operands are binary.

    Exact as `BinaryLinear` is; scales and other statistics of the weight belong to one output channel each, in every
    group. Padding crops the result, so there is no border with a `pad_value`.
    With `activation.scale: input_map` the output is multiplied by K: the mean |x| over the channels, averaged over the
    positions that reach the output position. That is the scale of XNOR-Net (Rastegari et al., 2016) for the dot product
    that each output is.
    """

    convolve: ClassVar[Callable[..., Tensor]]
    binary: ConvTransposeParts

    @staticmethod
    def check_spec(name: str, module: nn.Module, spec: ConvSpec) -> None:
        """Refuse a `pad_value`, and two sets of codes."""
        _no_border(spec, f"'{name}', a transposed convolution,")

    def make_parts(self, spec: ConvSpec) -> ConvTransposeParts:
        """The binarizers for this layer.

        Raises:
            BinarizeError: a `pad_value`, or two sets of codes.

        """
        _no_border(spec, "a transposed convolution")
        return ConvTransposeParts(spec, self)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 - as in PyTorch
        """The binary transposed convolution; see the class."""
        dims = len(self.kernel_size)
        layer: Any = self  # PyTorch types its sizes as lists, and holds tuples
        geometry = (layer.stride, layer.padding, layer.kernel_size)
        extra = self._output_padding(input, output_size, *geometry, dims, layer.dilation)
        x = input if input.dim() > 1 + dims else input.unsqueeze(0)
        result = self._computed(x, extra)
        return result if x is input else result.squeeze(0)

    def _computed(self, real: Tensor, extra: list[int]) -> Tensor:
        x, w = self.binary.operands(real, self.weight, offsets=True)
        if self.spec.output is None:
            return self.binary.finish(self._scaled(x, w, self.bias, real, extra), real)
        result = self._scaled(x, w, None, real, extra)
        if self.binary.waits_for_data:
            geometry = (self.stride, self.padding, extra, self.groups, self.dilation)
            self.binary.recover(result, self.weight, lambda weight: type(self).convolve(real, weight, None, *geometry))
        result = self.binary.finish(result, real)
        return result if self.bias is None else result + self.bias.view(-1, *[1] * len(self.kernel_size))

    def _scaled(self, x: Codes, w: Codes, bias: Tensor | None, real: Tensor, extra: list[int]) -> Tensor:
        """The product of both operands with their scales, and the bias."""

        def product(a: Tensor, b: Tensor) -> Tensor:
            return type(self).convolve(a, b, None, self.stride, self.padding, extra, self.groups, self.dilation)

        channel_dim = -1 - len(self.kernel_size)
        if x.offset is not None or w.offset is not None:
            result = affine_product(product, self._of_ones(x.codes, extra), x, w, channel_dim)
            return result if bias is None else result + bias.view(-1, *[1] * len(self.kernel_size))
        found = multiply(product, x, w)
        if self.binary.activation is not None and self.binary.activation.spec.scale == "input_map":
            x = x._replace(scale=self._input_map(real, extra))
        return rescale(found, x, w, bias, channel_dim)

    def _of_ones(self, codes: Tensor, extra: list[int]) -> OnesProducts:
        """The products with ones, for a batch of codes."""
        dims = len(self.kernel_size)

        def product(a: Tensor, b: Tensor, groups: int) -> Tensor:
            return type(self).convolve(a, b, None, self.stride, self.padding, extra, groups, self.dilation)

        def with_weight(weight: Tensor) -> Tensor:
            sums = wide(weight).unflatten(0, (self.groups, -1)).sum(dim=1).flatten(0, 1).unsqueeze(0)
            return product(sums.new_ones(1, 1, *codes.shape[-dims:]), sums, 1)

        def with_input(x: Tensor) -> Tensor:
            sums = channel_sums(x, self.groups, -1 - dims)
            return product(sums, sums.new_ones(self.groups, 1, *self.kernel_size), self.groups)

        return OnesProducts(with_weight, with_input, self.weight.new_ones(self.in_channels, 1, *self.kernel_size))

    @torch.no_grad()
    def _input_map(self, x: Tensor, extra: list[int]) -> Tensor:
        """K, shape (N, 1, ...) of the output; 0 where no input reaches. No gradient."""
        layer: Any = self
        geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        magnitude = x.detach().abs().mean(dim=1, keepdim=True)
        box = torch.ones(1, 1, *self.kernel_size, device=x.device, dtype=x.dtype)
        sums = type(self).convolve(magnitude, box, None, self.stride, self.padding, extra, 1, self.dilation)
        return sums / reach(x.shape[2:], sums.shape[2:], *geometry, x.device).clamp(min=1)

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The weight."""
        return self.binary.latent("weight", self.weight)

    def constrain(self) -> None:
        """Apply the constraints of the latent weight and of the learned scale."""
        self.binary.constrain(self.weight)

    def binary_tensors(self) -> dict[str, Tensor]:
        """The weight as deployment has it."""
        return {"weight": self.binary.deployed(self.weight)}


def _no_border(spec: ConvSpec, layer: str) -> None:
    single_codes(spec, layer)
    if spec.pad_value != 0:
        raise BinarizeError(
            f"pad_value is {spec.pad_value}, but {layer} pads nothing (its padding crops the output): set pad_value "
            "to 0 for it"
        )


def _init(self: Any, base: type[_ConvTransposeNd], args: tuple[Any, ...], spec: ConvSpec | None) -> None:
    base.__init__(self, *args)
    spec = ConvSpec() if spec is None else spec
    self.attach(spec, self.make_parts(spec))


class BinaryConvTranspose1d(_BinaryConvTranspose, ConvTranspose1d):
    """Binary transposed convolution over (N, C, L). Arguments as in `nn.ConvTranspose1d`, plus `spec`."""

    replaces = ConvTranspose1d
    convolve = staticmethod(F.conv_transpose1d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: Any = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        spec: ConvSpec | None = None,
    ) -> None:
        args = (in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation)
        _init(self, ConvTranspose1d, (*args, padding_mode, device, dtype), spec)


class BinaryConvTranspose2d(_BinaryConvTranspose, ConvTranspose2d):
    """Binary transposed convolution over (N, C, H, W). Arguments as in `nn.ConvTranspose2d`, plus `spec`."""

    replaces = ConvTranspose2d
    convolve = staticmethod(F.conv_transpose2d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: Any = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        spec: ConvSpec | None = None,
    ) -> None:
        args = (in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation)
        _init(self, ConvTranspose2d, (*args, padding_mode, device, dtype), spec)


class BinaryConvTranspose3d(_BinaryConvTranspose, ConvTranspose3d):
    """Binary transposed convolution over (N, C, D, H, W). Arguments as in `nn.ConvTranspose3d`, plus `spec`."""

    replaces = ConvTranspose3d
    convolve = staticmethod(F.conv_transpose3d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: Any = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        spec: ConvSpec | None = None,
    ) -> None:
        args = (in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation)
        _init(self, ConvTranspose3d, (*args, padding_mode, device, dtype), spec)

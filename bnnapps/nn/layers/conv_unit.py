"""A convolution with BatchNorm and ReLU, put together anew around its own convolution."""

from __future__ import annotations

from torch import Tensor, nn

from bnnapps.nn.blocks.conv_unit import ConvUnit
from bnnapps.nn.blocks.lean import AvgPool2d, normalized
from bnnapps.nn.layers.base import BinaryLayer, Parts, device_dtype
from bnnapps.nn.nonlinearities import make_nonlinearity
from bnnapps.nn.spec.block import BlockSpec


class ConvUnitParts(Parts):
    """What a rewritten unit has beyond its own: a `norm`, a `nonlinearity`, a `downsample` branch, or `None`.

    `adds` says whether the unit has a shortcut.
    """

    norm: nn.Module | None
    nonlinearity: nn.Module | None
    downsample: nn.Module | None

    def __init__(self, spec: BlockSpec, unit: ConvUnit) -> None:
        super().__init__()
        conv = unit.conv
        like = device_dtype(conv.weight)
        self.norm = nn.BatchNorm2d(conv.in_channels, **like) if spec.norm == "before" else None
        self.nonlinearity = None
        if spec.nonlinearity != "keep":
            self.nonlinearity = make_nonlinearity(spec.nonlinearity, conv.out_channels, **like)
        wanted = spec.shortcut == "conv" and unit.shortcut
        same = _keeps_size(conv) and conv.stride == (1, 1) and conv.in_channels == conv.out_channels
        self.downsample = None
        if wanted and not same and spec.downsample == "avgpool" and _keeps_size(conv):
            layers: list[nn.Module] = []
            if conv.stride != (1, 1):
                stride = (conv.stride[0], conv.stride[1])
                layers.append(AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
            layers.append(nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=False, **like))
            layers.append(nn.BatchNorm2d(conv.out_channels, **like))
            self.downsample = nn.Sequential(*layers)
        self.adds = wanted and (same or self.downsample is not None)


class BinaryConvUnit(BinaryLayer[BlockSpec], ConvUnit):
    """A `ConvUnit` that follows a `BlockSpec`; `[...]` depends on the record.

        z = [norm](x);  z = conv(z);  z = [norm](z);  z = z + [shortcut(x)];  z = nonlinearity(z)

    With `shortcut: conv` the input itself is added where the unit keeps its shape. Where it strides or widens,
    `downsample: avgpool` adds average pooling (an odd last row is averaged alone), a real 1x1 convolution and
    BatchNorm (BiDet, Wang et al., CVPR 2020; Bi-Real Net, 2018), and `keep` nothing, for a unit has no branch of its
    own. What a record leaves out rests: its Parameters take no gradient until the unit is restored.
    """

    replaces = ConvUnit
    binary: ConvUnitParts

    def make_parts(self, spec: BlockSpec) -> ConvUnitParts:
        """New members, where the record asks for them."""
        return ConvUnitParts(spec, self)

    def attach(self, spec: BlockSpec, parts: ConvUnitParts) -> None:  # type: ignore[override]
        """Take on the parts; what is left out rests."""
        super().attach(spec, parts)
        self._float_requires_grad = [p.requires_grad for p in self.resting()]
        for parameter in self.resting():
            parameter.requires_grad_(False)

    def detach(self) -> None:
        """Drop the parts; gradients are as they were."""
        for parameter, flag in zip(self.resting(), self._float_requires_grad, strict=True):
            parameter.requires_grad_(flag)
        del self._float_requires_grad
        super().detach()

    def resting(self) -> list[nn.Parameter]:
        """The Parameters of the unit's own BatchNorm, where it computes without."""
        return [] if self.binary.norm is None else list(self.bn.parameters())

    def forward(self, x: Tensor) -> Tensor:
        """The rewritten unit; see the class."""
        parts, spec = self.binary, self.spec
        act: nn.Module = self.relu if parts.nonlinearity is None else parts.nonlinearity
        z: Tensor = self.conv(x if parts.norm is None else parts.norm(x))
        if spec.nonlinearity_at == "before_norm":
            z = act(z)
        if parts.norm is None:
            z = self.bn(z) if spec.nonlinearity_at == "before_norm" else normalized(self.bn, self.conv, z)
        if spec.nonlinearity_at == "before_add":
            z = act(z)
        if parts.adds:
            z = z + (x if parts.downsample is None else parts.downsample(x))
        return act(z) if spec.nonlinearity_at == "after_add" else z


def _keeps_size(conv: nn.Conv2d) -> bool:
    """Whether the output has the size of the input divided by the stride and rounded up."""
    padding = conv.padding
    if isinstance(padding, str):
        return padding == "same"
    spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    return [2 * p for p in padding] == spans

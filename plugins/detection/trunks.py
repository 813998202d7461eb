"""Trunks of the detectors of this package: plain convolutions for SSD, the first three quarters of a ResNet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from bnnapps.nn.blocks import ConvUnit


class L2Norm(nn.Module):
    """s_c x_c / |x|: every position of a map brought to length one, then a learned scale a channel (ParseNet, 2015).

    (N, C, H, W) in and out. SSD (Liu et al., ECCV 2016) has it on its first source, whose values are larger than
    those of the later ones.
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """The normalised map; a position that is zero everywhere stays zero."""
        length = x.pow(2).sum(dim=1, keepdim=True).sqrt().clamp(min=1e-10)
        return x / length * self.weight.view(1, -1, 1, 1)


class Extra(NamedTuple):
    """One more source behind the trunk of SSD: a 1x1 convolution to `squeeze` channels, then a 3x3 one."""

    squeeze: int
    channels: int
    stride: int
    padding: int


class SSDTrunk(nn.Module):
    """The sources of SSD from units of convolution, BatchNorm and ReLU.

    As BiDet's released network (Wang et al., CVPR 2020): VGG with BatchNorm, in which a unit of stride 2 stands where
    VGG has a maximum pooling. Rules of the type `conv_unit` make Bi-Real's or XNOR-Net's blocks of the units; only
    those of the stages may get shortcuts.

    Args:
        widths: channels of each stage.
        units: units of each stage, the first of which halves the size (in the first stage: strides by `stem_stride`).
        stem_stride: of the first convolution.
        source: index of the stage whose output, behind `L2Norm`, is the first source; that of the last stage (or of
            its tail) is the second.
        tail: channels of conv6 (3x3, dilation 6, behind a 3x3 maximum pooling) and conv7 (1x1); `None`: no tail.
        extras: further sources.

    """

    def __init__(
        self,
        widths: Sequence[int],
        units: Sequence[int],
        source: int,
        stem_stride: int = 1,
        tail: int | None = None,
        extras: Sequence[Extra] = (),
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before = 3
        for i, (width, count) in enumerate(zip(widths, units, strict=True)):
            first = ConvUnit(before, width, stride=stem_stride if i == 0 else 2, shortcut=i > 0)
            stages.append(nn.Sequential(first, *(ConvUnit(width, width) for _ in range(count - 1))))
            before = width
        self.stages = nn.ModuleList(stages)
        self.source = source
        self.l2norm = L2Norm(widths[source])
        self.tail: nn.Module | None = None
        if tail is not None:
            conv6 = ConvUnit(before, tail, dilation=6, shortcut=False)
            conv7 = ConvUnit(tail, tail, kernel=1, shortcut=False)
            layers = [("pool5", nn.MaxPool2d(3, 1, 1)), ("conv6", conv6), ("conv7", conv7)]
            self.tail = nn.Sequential(OrderedDict(layers))
            before = tail
        self.extras = nn.ModuleList()
        self.out_channels = [widths[source], before]
        for extra in extras:
            squeeze = ConvUnit(before, extra.squeeze, kernel=1, shortcut=False)
            conv = ConvUnit(extra.squeeze, extra.channels, 3, extra.stride, extra.padding, shortcut=False)
            self.extras.append(nn.Sequential(squeeze, conv))
            before = extra.channels
            self.out_channels.append(before)
        _initialize(self)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """(N, 3, H, W) to the sources, each (N, C, h, w), from the finest on."""
        found: list[Tensor] = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i == self.source:
                found.append(self.l2norm(x))
        x = x if self.tail is None else self.tail(x)
        found.append(x)
        for extra in self.extras:
            x = extra(x)
            found.append(x)
        return OrderedDict((str(i), source) for i, source in enumerate(found))


BLOCKS: dict[int, tuple[Any, tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}
"""Block class and blocks a stage of the ResNets, by depth."""


class ResNetC4(nn.Module):
    """A ResNet up to its third stage, stride 16 (8 without the stem's pooling), as the trunk of Faster R-CNN.

    He et al., 2016. Names are torchvision's, so that its weights load.

    Args:
        depth: 18, 34 or 50.
        widths: channels of the stages' 3x3 convolutions; the published ones by default.
        frozen_stem: the first convolution and its BatchNorm do not move (for weights that were trained before).
        stem_pool: the maximum pooling behind the first convolution; images of some 100 pixels are better off without.
        stem_relu: the ReLU before it. Signs of what it puts out are all +1, so BiDet's and Bi-Real's released
            networks have none.

    """

    def __init__(
        self,
        depth: int = 18,
        widths: Sequence[int] = (64, 128, 256, 512),
        frozen_stem: bool = False,
        stem_pool: bool = True,
        stem_relu: bool = True,
    ) -> None:
        super().__init__()
        block, counts = BLOCKS[depth]
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = FrozenBatchNorm2d(widths[0]) if frozen_stem else nn.BatchNorm2d(widths[0])
        self.conv1.requires_grad_(not frozen_stem)
        self.relu = nn.ReLU(inplace=True) if stem_relu else nn.Identity()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem_pool else nn.Identity()
        before = widths[0]
        for i in range(3):
            stage = resnet_stage(block, before, widths[i], counts[i], 1 if i == 0 else 2)
            self.add_module(f"layer{i + 1}", stage)
            before = widths[i] * block.expansion
        self.out_channels = before
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, H / 16, W / 16), without the pooling to (N, C, H / 8, W / 8)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in ("layer1", "layer2", "layer3"):
            x = self.get_submodule(name)(x)
        return x


class ResNetC5Head(nn.Module):
    """The fourth stage of a ResNet on the maps of each region, and the mean over places.

    (n, C, 7, 7) to (n, out_channels).
    """

    def __init__(self, depth: int = 18, widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        block, counts = BLOCKS[depth]
        self.layer4 = resnet_stage(block, widths[2] * block.expansion, widths[3], counts[3], 2)
        self.out_channels = widths[3] * block.expansion
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """One vector for each region."""
        y: Tensor = self.layer4(x)
        return y.mean(dim=(2, 3))


def resnet_stage(block: Any, before: int, planes: int, count: int, stride: int) -> nn.Sequential:
    """`count` blocks of torchvision, the first of which strides and widens."""
    after = planes * block.expansion
    downsample = None
    if stride != 1 or before != after:
        downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
    first = block(before, planes, stride, downsample)
    return nn.Sequential(first, *(block(after, planes) for _ in range(count - 1)))


def _initialize(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

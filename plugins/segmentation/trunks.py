"""Backbones: the convolutional part of a classifier, which gives the maps of its stages."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from bnnapps.models.resnet import ResNet
from bnnapps.nn.blocks import BasicBlock


class ResNetTrunk(nn.Module):
    """Stem and four stages of a ResNet, under torchvision's names.

    A stage whose output would be smaller than 1 / `output_stride` keeps its size; its 3x3 convolutions are dilated
    instead, as in DeepLab: those of its first block as before, all further ones twice as much.

    Args:
        network: a ResNet of torchvision or of this package; its pooling and its last layer are left out.
        output_stride: 8, 16 or 32.

    """

    def __init__(self, network: Any, output_stride: int = 32) -> None:
        super().__init__()
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(name, network.get_submodule(name))
        stride, dilation = 4, 1
        self.strides = [stride]
        for number in (2, 3, 4):
            stage = self.get_submodule(f"layer{number}")
            if stride < output_stride:
                stride *= 2
            else:
                _dilated_stage(stage, dilation)
                dilation *= 2
            self.strides.append(stride)
        last: Any = self.layer4[-1]  # type: ignore[index]
        conv = last.conv3 if hasattr(last, "conv3") else last.conv2
        expansion = conv.out_channels
        self.channels = [expansion // 8, expansion // 4, expansion // 2, expansion]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to the maps of the four stages, the largest first."""
        maps = []
        for name, layer in self.named_children():
            x = layer(x)
            if name.startswith("layer"):
                maps.append(x)
        return maps


def _dilated_stage(stage: nn.Module, dilation: int) -> None:
    for number, block in enumerate(stage.children()):
        rate = dilation if number == 0 else 2 * dilation
        for conv in block.modules():
            if isinstance(conv, nn.Conv2d):
                conv.stride = (1, 1)
                if conv.kernel_size == (3, 3):
                    conv.dilation, conv.padding = (rate, rate), (rate, rate)
                    conv._reversed_padding_repeated_twice = [rate] * 4
        own: Any = block
        own.stride = 1


class VGGTrunk(nn.Module):
    """The convolutions of a VGG of torchvision, under its names; a stage ends behind each maximum pooling.

    Where the map would be smaller than 1 / `output_stride`, pooling keeps its size and the convolutions behind it are
    dilated instead.

    Args:
        network: a VGG of torchvision; its linear layers are left out.
        output_stride: 8, 16 or 32.

    """

    def __init__(self, network: Any, output_stride: int = 32) -> None:
        super().__init__()
        self.features = network.features
        stride, dilation, channels = 1, 1, 0
        self.strides: list[int] = []
        self.channels: list[int] = []
        self.ends: list[int] = []
        for number, layer in enumerate(self.features):
            if isinstance(layer, nn.Conv2d):
                channels = layer.out_channels
                if dilation > 1:
                    layer.dilation, layer.padding = (dilation, dilation), (dilation, dilation)
                    layer._reversed_padding_repeated_twice = [dilation] * 4
            if isinstance(layer, nn.MaxPool2d):
                if stride < output_stride:
                    stride *= 2
                else:
                    self.features[number] = nn.MaxPool2d(3, stride=1, padding=1)
                    dilation *= 2
                self.strides.append(stride)
                self.channels.append(channels)
                self.ends.append(number)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to the maps of the five stages, the largest first."""
        maps = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.ends:
                maps.append(x)
        return maps


def small_resnet(width: int = 32, depth: int = 1) -> ResNet:
    """Four stages of `depth` basic blocks, from `width` to 8 `width` features, behind torchvision's stem."""
    block = partial(BasicBlock, projection=True)
    widths = (width, 2 * width, 4 * width, 8 * width)
    return ResNet(block, (depth,) * 4, widths, 1, 3, "imagenet", "relu")

"""ResNet-18, -20 and -34, and Bi-Real Net-18 and -34."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn

from bnnapps.models.registry import ModelEntry, one_of, register_model
from bnnapps.models.weights import initialized
from bnnapps.nn.blocks import BasicBlock, BiRealBlock
from bnnapps.nn.nonlinearities import make_nonlinearity
from bnnapps.nn.spec.block import NonlinearityName

WIDTHS = (64, 128, 256, 512)


class ResNet(nn.Module):
    """Stem, stages of residual blocks, average over positions, linear layer; names as torchvision's.

    Args:
        block: `block(in_channels, channels, stride)` makes one.
        depths: blocks in each stage.
        widths: channels of each stage; every stage but the first strides by 2.
        num_classes: outputs.
        in_channels: of the images.
        stem: "imagenet", 7x7 with stride 2 and maximum pooling, or "cifar", 3x3.
        stem_activation: the non-linearity of the stem. Behind a ReLU the signs that the first block takes are all +1.
        head_norm: a BatchNorm before the last layer, as IR-Net and ReCU have on CIFAR.

    """

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        depths: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        in_channels: int,
        stem: str,
        stem_activation: NonlinearityName,
        head_norm: bool = False,
    ) -> None:
        super().__init__()
        one_of(stem, ("imagenet", "cifar"), "stem")
        one_of(stem_activation, get_args(NonlinearityName), "stem_activation")
        width = widths[0]
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = make_nonlinearity(stem_activation, width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        self.stages = []
        for number, (depth, channels) in enumerate(zip(depths, widths, strict=True), start=1):
            blocks = [block(width, channels, 1 if number == 1 else 2)]
            blocks += [block(channels, channels, 1) for _ in range(depth - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            self.stages.append(f"layer{number}")
            width = channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head_norm = nn.BatchNorm1d(width) if head_norm else nn.Identity()
        self.fc = nn.Linear(width, num_classes)
        initialized(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        out: Tensor = self.fc(self.head_norm(torch.flatten(self.avgpool(x), 1)))
        return out


def resnet(
    depths: Sequence[int],
    widths: Sequence[int],
    num_classes: int,
    in_channels: int,
    stem: str,
    stem_activation: NonlinearityName,
    shortcut: str,
    head_norm: bool,
) -> ResNet:
    """A ResNet of basic blocks; `shortcut` is "projection" (1x1 convolution, BatchNorm) or "pad" (no parameters)."""
    one_of(shortcut, ("projection", "pad"), "shortcut")
    block = partial(BasicBlock, projection=shortcut == "projection")
    return ResNet(block, depths, widths, num_classes, in_channels, stem, stem_activation, head_norm)


def resnet20(
    num_classes: int,
    in_channels: int,
    stem_activation: NonlinearityName = "relu",
    shortcut: str = "pad",
    head_norm: bool = False,
) -> ResNet:
    """Three stages of three blocks, 16, 32 and 64 channels."""
    return resnet((3, 3, 3), (16, 32, 64), num_classes, in_channels, "cifar", stem_activation, shortcut, head_norm)


def resnet18(
    num_classes: int,
    in_channels: int,
    stem: str = "imagenet",
    stem_activation: NonlinearityName = "relu",
    shortcut: str = "projection",
    head_norm: bool = False,
) -> ResNet:
    """Four stages of two blocks."""
    return resnet((2, 2, 2, 2), WIDTHS, num_classes, in_channels, stem, stem_activation, shortcut, head_norm)


def resnet34(
    num_classes: int,
    in_channels: int,
    stem: str = "imagenet",
    stem_activation: NonlinearityName = "relu",
    shortcut: str = "projection",
    head_norm: bool = False,
) -> ResNet:
    """Stages of 3, 4, 6 and 3 blocks."""
    return resnet((3, 4, 6, 3), WIDTHS, num_classes, in_channels, stem, stem_activation, shortcut, head_norm)


def bireal(
    depths: Sequence[int],
    num_classes: int,
    in_channels: int,
    stem: str = "imagenet",
    nonlinearity: NonlinearityName = "none",
) -> ResNet:
    """A ResNet of Bi-Real blocks, whose stem has no non-linearity but maximum pooling."""
    one_of(nonlinearity, get_args(NonlinearityName), "nonlinearity")
    block = partial(BiRealBlock, nonlinearity=nonlinearity)
    return ResNet(block, depths, WIDTHS, num_classes, in_channels, stem, "none")


def real2binary18(
    num_classes: int, in_channels: int, stem: str = "imagenet", stem_activation: NonlinearityName = "prelu"
) -> ResNet:
    """ResNet-18 with a PReLU in its stem; the method's own rule puts its blocks together."""
    return resnet18(num_classes, in_channels, stem, stem_activation)


_RESNET = "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016"
_BIREAL = "Liu, Wu, Luo, Yang, Liu, Cheng: Bi-Real Net, ECCV 2018"

register_model(
    ModelEntry("resnet20", "ResNet-20 for CIFAR, 16-32-64, zero-padded shortcuts", _RESNET, resnet20, (32, 32), 10)
)
register_model(
    ModelEntry("resnet18", "ResNet-18, names and sizes as torchvision's", _RESNET, resnet18, (224, 224), 1000)
)
register_model(
    ModelEntry("resnet34", "ResNet-34, names and sizes as torchvision's", _RESNET, resnet34, (224, 224), 1000)
)
register_model(
    ModelEntry(
        "real2binary18",
        "ResNet-18 with a PReLU stem, whose blocks the method puts together: norm, sign, gated convolution, PReLU",
        "Martinez, Yang, Bulat, Tzimiropoulos: Training Binary Neural Networks with Real-to-Binary Convolutions, "
        "ICLR 2020",
        real2binary18,
        (224, 224),
        1000,
        "real2binary",
    )
)
register_model(
    ModelEntry(
        "bireal18",
        "Bi-Real Net-18: a shortcut around each convolution, no ReLU",
        _BIREAL,
        partial(bireal, (2, 2, 2, 2)),
        (224, 224),
        1000,
        "bireal",
    )
)
register_model(
    ModelEntry(
        "bireal34",
        "Bi-Real Net-34: a shortcut around each convolution, no ReLU",
        _BIREAL,
        partial(bireal, (3, 4, 6, 3)),
        (224, 224),
        1000,
        "bireal",
    )
)

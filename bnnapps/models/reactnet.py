"""ReActNet-A."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.models.registry import ModelEntry, register_model
from bnnapps.models.weights import initialized
from bnnapps.nn.blocks import ReActBlock

_WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


class ReActNetA(nn.Module):
    """MobileNetV1's stages of ReActNet blocks behind a real 3x3 convolution (Liu et al., ECCV 2020).

    A block that widens strides too, but for the first.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 32, 3, 2, padding=1, bias=False), nn.BatchNorm2d(32))
        blocks, channels = [], 32
        for number, width in enumerate(_WIDTHS):
            blocks.append(ReActBlock(channels, width, 2 if width != channels and number else 1))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialized(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, num_classes)."""
        out: Tensor = self.fc(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))
        return out


register_model(
    ModelEntry(
        "reactnet_a",
        "ReActNet-A: MobileNetV1 with shortcuts and concatenation where it widens",
        "Liu, Shen, Savvides, Cheng: ReActNet, ECCV 2020",
        ReActNetA,
        (224, 224),
        1000,
        "reactnet",
    )
)

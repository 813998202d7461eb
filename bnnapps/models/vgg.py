"""VGG-Small."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.models.registry import ModelEntry, register_model
from bnnapps.models.weights import initialized


class VGGSmall(nn.Module):
    """128-128-M-256-256-M-512-512-M and one linear layer (as in IR-Net, Qin et al., CVPR 2020).

    Each layer is a 3x3 convolution, pooling (M), BatchNorm, Hardtanh.

    Args:
        num_classes: outputs.
        in_channels: of the images.
        image_size: rows and columns of the images, a multiple of 8.

    """

    def __init__(self, num_classes: int, in_channels: int, image_size: int = 32) -> None:
        super().__init__()
        if image_size < 8 or image_size % 8:
            raise UsageError(f"image_size is {image_size}; VGG-Small halves it three times: give a multiple of 8")
        layers: list[nn.Module] = []
        channels = in_channels
        for number, width in enumerate((128, 128, 256, 256, 512, 512)):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
            if number % 2:
                layers.append(nn.MaxPool2d(2))
            layers += [nn.BatchNorm2d(width), nn.Hardtanh(inplace=True)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels * (image_size // 8) ** 2, num_classes)
        initialized(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, image_size, image_size) to (N, num_classes)."""
        out: Tensor = self.fc(torch.flatten(self.features(x), 1))
        return out


register_model(
    ModelEntry(
        "vgg_small",
        "VGG-Small: six convolutions, 128 to 512 channels, Hardtanh",
        "Qin, Gong, Liu, Shen, Wei, Yu, Song: Forward and Backward Information Retention (IR-Net), CVPR 2020",
        VGGSmall,
        (32, 32),
        10,
        "irnet",
    )
)

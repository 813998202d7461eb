"""Layers that add channels, layers that improve them, and the transitions between."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """x and conv(bn(x)), concatenated: BatchNorm, then a 3x3 convolution (BinaryDenseNet, Bethge et al., 2019)."""

    def __init__(self, in_channels: int, growth: int = 64, dilation: int = 1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, growth, 3, padding=dilation, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, in_channels + growth, H, W)."""
        return torch.cat([x, self.conv(self.bn(x))], dim=1)


class ImprovementLayer(nn.Module):
    """x, with conv(bn(x)) added to its last `growth` channels (MeliusNet, Bethge et al., 2020)."""

    def __init__(self, channels: int, growth: int = 64) -> None:
        super().__init__()
        self.growth = growth
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W), as it came in."""
        old, new = x[:, : -self.growth], x[:, -self.growth :]
        return torch.cat([old, new + self.conv(self.bn(x))], dim=1)


class Transition(nn.Module):
    """BatchNorm, maximum pooling (or, without `pool`, none), ReLU, and a real 1x1 convolution to fewer channels."""

    def __init__(self, in_channels: int, channels: int, pool: bool = True) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if pool else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, ceil(H / 2), ceil(W / 2))."""
        out: Tensor = self.conv(self.relu(self.pool(self.bn(x))))
        return out

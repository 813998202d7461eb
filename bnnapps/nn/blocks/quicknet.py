"""The blocks of QuickNet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QuickBlock(nn.Module):
    """x + bn(relu(conv(x))) with a 3x3 convolution (QuickNet, Bannink et al., MLSys 2021)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W), as it came in."""
        out: Tensor = x + self.bn(self.relu(self.conv(x)))
        return out


class BlurPool(nn.Module):
    """Each map convolved with the fixed kernel [1 2 1]^T [1 2 1] / 16, with stride 2 (Zhang, ICML 2019)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(line, line).view(1, 1, 3, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, ceil(H / 2), ceil(W / 2))."""
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.to(x.dtype).expand(channels, 1, 3, 3), None, 2, 1, groups=channels)


class QuickTransition(nn.Module):
    """ReLU, anti-aliased maximum pooling, a real 1x1 convolution and BatchNorm, between the sections of QuickNet."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2, stride=1)
        self.blur = BlurPool()
        self.conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / 2, W / 2)."""
        out: Tensor = self.bn(self.conv(self.blur(self.pool(self.relu(x)))))
        return out

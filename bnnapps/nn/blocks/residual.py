"""The residual block of two 3x3 convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from bnnapps.nn.blocks.shortcut import PadShortcut


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), with torchvision's names (ResNet, He et al., 2016).

    A float block; the type `residual_block` of rules rewrites it (`BlockSpec`) as it does torchvision's and timm's.

    Args:
        in_channels: of the input.
        channels: of the output.
        stride: of `conv1` and of the shortcut branch.
        projection: where stride or channels change, whether the branch is a 1x1 convolution with BatchNorm (ResNet
            for ImageNet) or `PadShortcut` (for CIFAR).

    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1, projection: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            if projection:
                conv = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
                self.downsample = nn.Sequential(conv, nn.BatchNorm2d(channels))
            else:
                self.downsample = PadShortcut(in_channels, channels, stride)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, ceil(H / stride), ceil(W / stride))."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = y + (x if self.downsample is None else self.downsample(x))
        out: Tensor = self.relu(y)
        return out

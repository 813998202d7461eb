"""The residual block with a shortcut around each convolution."""

from __future__ import annotations

from torch import Tensor, nn

from bnnapps.nn.blocks.lean import AvgPool2d, normalized
from bnnapps.nn.nonlinearities import make_nonlinearity
from bnnapps.nn.spec.block import NonlinearityName


class BiRealBlock(nn.Module):
    """y = f(bn1(conv1(x)) + shortcut(x)), then f(bn2(conv2(y)) + y), both 3x3 (Bi-Real Net, Liu et al., ECCV 2018).

    Where stride or channels change, the shortcut is average pooling, a 1x1 convolution and BatchNorm.

    Args:
        in_channels: of the input.
        channels: of the output.
        stride: of `conv1` and of the pooling.
        nonlinearity: f, one for each convolution; none in Bi-Real Net, RPReLU in ReActNet.

    """

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, nonlinearity: NonlinearityName = "none"
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = make_nonlinearity(nonlinearity, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = make_nonlinearity(nonlinearity, channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            pool = AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            conv = nn.Conv2d(in_channels, channels, 1, bias=False)
            self.downsample = nn.Sequential(pool, conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, ceil(H / stride), ceil(W / stride))."""
        y = normalized(self.bn1, self.conv1, self.conv1(x)) + (x if self.downsample is None else self.downsample(x))
        y = self.act1(y)
        out: Tensor = self.act2(normalized(self.bn2, self.conv2, self.conv2(y)) + y)
        return out

"""The shortcut branch without parameters, as in the ResNets for CIFAR."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PadShortcut(nn.Module):
    """Every `stride`-th row and column, and channels of zeros around (option A of ResNet, He et al., 2016).

    (N, in_channels, H, W) in, (N, out_channels, ceil(H / stride), ceil(W / stride)) out; half of the new channels come
    before the old ones, half behind them.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """The subsampled map with more channels."""
        extra = self.out_channels - self.in_channels
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, extra // 2, extra - extra // 2))

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"

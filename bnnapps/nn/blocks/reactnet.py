"""The pair of a 3x3 and a 1x1 convolution of ReActNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.nn.nonlinearities import RPReLU


class ReActBlock(nn.Module):
    """A 3x3 convolution, then 1x1 convolutions, each with BatchNorm, a shortcut and RPReLU (Liu et al., ECCV 2020).

    y = RPReLU(bn(conv3x3(x)) + x'), where x' is x, or its 2x2 averages where the block strides. Then
    RPReLU(bn(conv1x1(y)) + y); a block that widens has two such 1x1 convolutions without the RPReLU and concatenates
    them, so that no shortcut changes its number of channels. None of its convolutions need be real. The learned shift
    before each sign (RSign) is a part of the binary layers; the two 1x1 convolutions have one each, where the published
    code shares one.

    Args:
        in_channels: of the input.
        channels: of the output: `in_channels` or twice that.
        stride: of the 3x3 convolution.

    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        if channels not in (in_channels, 2 * in_channels):
            raise UsageError(f"a ReActNet block of {in_channels} channels cannot give {channels}: the same or twice")
        self.conv3x3 = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.pool: nn.Module = nn.Identity()
        if stride != 1:
            self.pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        self.act1 = RPReLU(in_channels)
        copies = channels // in_channels
        self.conv1x1 = nn.ModuleList(nn.Conv2d(in_channels, in_channels, 1, bias=False) for _ in range(copies))
        self.bn2 = nn.ModuleList(nn.BatchNorm2d(in_channels) for _ in range(copies))
        self.act2 = RPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, ceil(H / stride), ceil(W / stride))."""
        y = self.act1(self.bn1(self.conv3x3(x)) + self.pool(x))
        halves = [bn(conv(y)) + y for conv, bn in zip(self.conv1x1, self.bn2, strict=True)]
        out: Tensor = self.act2(torch.cat(halves, dim=1))
        return out

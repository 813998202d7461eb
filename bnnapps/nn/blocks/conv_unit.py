"""A convolution with its BatchNorm and ReLU: what plain trunks and the extra layers of detectors are made of."""

from __future__ import annotations

from torch import Tensor, nn

from bnnapps.nn.blocks.lean import normalized


class ConvUnit(nn.Module):
    """relu(bn(conv(x))), as in VGG with BatchNorm.

    A float block; the type `conv_unit` of rules rewrites it (`BlockSpec`): BatchNorm before the convolution
    (XNOR-Net), a shortcut around it (Bi-Real Net), another non-linearity.

    Args:
        in_channels: of the input.
        channels: of the output.
        kernel: its height and width, odd where `padding` is left to its default.
        stride: of the convolution.
        padding: by default the one that keeps the size at stride 1.
        dilation: of the convolution.
        shortcut: whether a method may put a shortcut around it. BiDet (2020) does so in the trunk of SSD, and not in
            the layers behind.

    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2) if padding is None else padding
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, dilation, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H', W'), not negative."""
        out: Tensor = self.relu(normalized(self.bn, self.conv, self.conv(x)))
        return out

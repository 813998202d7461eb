"""timm's `Conv2dSame`: a convolution whose border depends on the size of its input, as in TensorFlow."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.nn.layers.conv import BinaryConv2d


def is_conv2d_same(module: nn.Module) -> bool:
    """Whether the module is timm's `Conv2dSame`."""
    return (type(module).__module__, type(module).__name__) == ("timm.layers.conv2d_same", "Conv2dSame")


class BinaryConv2dSame(BinaryConv2d):
    """As `BinaryConv2d`, with ceil(size / stride) outputs along each dimension; `spec.pad_value` fills the border.

    Of a border that is odd, the larger half lies behind the map.
    """

    def _padded(self, codes: Tensor, value: float) -> Tensor:
        return F.pad(codes, self._missing(codes), value=value)

    def _zeros_around(self, real: Tensor) -> list[int]:
        return self._missing(real)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, self.stride, 0, self.dilation, self.groups)

    def _input_map(self, x: Tensor) -> Tensor:
        return super()._input_map(F.pad(x, self._missing(x)))

    def _border(self, real: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        left, right, above, below = self._missing(real)
        return (above, left), (below, right)

    def _missing(self, x: Tensor) -> list[int]:
        """Positions to put left, right, above and below."""
        border: list[int] = []
        for dim in (1, 0):  # F.pad begins with the last dimension
            size, stride = x.shape[dim - 2], self.stride[dim]
            reach = (self.kernel_size[dim] - 1) * self.dilation[dim] + 1
            missing = max((-(-size // stride) - 1) * stride + reach - size, 0)
            border += [missing // 2, missing - missing // 2]
        return border

"""The non-linearities of binary networks: what stands between two signs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.nn.spec.block import NonlinearityName


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """`values` of shape (C,), shaped to meet x of shape (N, C, ...)."""
    return values.view((1, -1) + (1,) * (x.dim() - 2))


class RPReLU(nn.Module):
    """f(x) = PReLU(x - gamma) + zeta with learned shifts and slope per channel (ReActNet, Liu et al., 2020).

    Input and output of shape (N, C, ...). Slope 0.25, shifts 0 at the start.
    """

    def __init__(self, channels: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        self.zeta = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        self.slope = nn.Parameter(torch.full((channels,), 0.25, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """The shifted PReLU of x."""
        shifted = x - per_channel(self.gamma, x)
        return nn.functional.prelu(shifted, self.slope) + per_channel(self.zeta, x)

    def extra_repr(self) -> str:
        """The number of channels."""
        return f"{self.slope.numel()}"


class Maxout(nn.Module):
    """f(x) = positive * max(0, x) - negative * max(0, -x), both learned per channel (AdaBin, Tu et al., 2022).

    Input and output of shape (N, C, ...). `positive` is 1 and `negative` 0.25 at the start.
    """

    def __init__(self, channels: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.positive = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))
        self.negative = nn.Parameter(torch.full((channels,), 0.25, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Two learned slopes."""
        upper, lower = per_channel(self.positive, x), per_channel(self.negative, x)
        return upper * x.clamp(min=0) + lower * x.clamp(max=0)

    def extra_repr(self) -> str:
        """The number of channels."""
        return f"{self.positive.numel()}"


def make_nonlinearity(
    name: NonlinearityName, channels: int, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """A new non-linearity for (N, channels, ...); `none` is an identity.

    PReLU has one slope a channel, 0.25 at the start.
    """
    if name == "prelu":
        return nn.PReLU(channels, device=device, dtype=dtype)
    if name == "rprelu":
        return RPReLU(channels, device, dtype)
    if name == "maxout":
        return Maxout(channels, device, dtype)
    plain: dict[str, type[nn.Module]] = {"none": nn.Identity, "relu": nn.ReLU, "hardtanh": nn.Hardtanh}
    return plain[name]()

"""What networks on clouds are made of: one linear layer with BatchNorm for all points, in rows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bnnapps.nn import Rectifier


class PointUnit(nn.Module):
    """act(bn(linear(x))) for every point alike: (..., in) to (..., out).

    Args:
        in_channels: of the input.
        channels: of the output.
        act: with a rectifier, which rules replace where the network becomes binary.

    """

    def __init__(self, in_channels: int, channels: int, act: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, channels, bias=False)
        self.bn = nn.BatchNorm1d(channels)
        self.act = Rectifier() if act else None

    def forward(self, x: Tensor) -> Tensor:
        """The unit; see the class."""
        y = self.linear(x)
        z: Tensor = self.bn(y if y.dim() == 2 else y.flatten(0, -2)).view(y.shape)
        return z if self.act is None else self.act(z)


class SharedMLP(nn.Sequential):
    """Several `PointUnit`s in a row.

    Args:
        channels: of the input, then of each unit.
        last_act: whether the last unit has a rectifier; right before an aggregation it has none of its own.

    """

    def __init__(self, channels: Sequence[int], last_act: bool = True) -> None:
        last = len(channels) - 2
        units = [PointUnit(channels[i], channels[i + 1], last_act or i < last) for i in range(len(channels) - 1)]
        super().__init__(*units)


class Head(nn.Module):
    """Units, dropout, and a linear layer that puts out scores: (..., in) to (..., classes)."""

    def __init__(self, channels: Sequence[int], classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.mlp = SharedMLP(channels)
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Linear(channels[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        found: Tensor = self.scores(self.dropout(self.mlp(x)))
        return found


def scaled(widths: Sequence[int], width: float) -> list[int]:
    """Numbers of channels times `width`, in whole eights, at least 8."""
    return [max(8, round(w * width / 8) * 8) for w in widths]

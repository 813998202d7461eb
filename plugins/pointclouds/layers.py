"""What networks on clouds are made of: one linear layer with BatchNorm for all points, in rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from bnnapps.nn import Rectifier

Kind = Literal["single_norm", "double_norm"]


class PointNorm(nn.BatchNorm1d):
    """BatchNorm over all points: (..., channels) to the same."""

    def forward(self, x: Tensor) -> Tensor:
        """The normalised points."""
        found: Tensor = super().forward(x if x.dim() == 2 else x.flatten(0, -2))
        return found.view(x.shape)


class PointUnit(nn.Module):
    """act(bn(linear(x))) for every point alike: (..., in) to (..., out).

    Args:
        in_channels: of the input.
        channels: of the output.
        act: with a rectifier, which rules replace where the network becomes binary.
        kind: `double_norm`: another BatchNorm before the linear layer, so that signs are balanced there whatever comes
            (a maximum over points too), and PReLU for the rectifier (POEM, Xu et al., BMVC 2021).
        first: its input is that of the network, which is not normalised.

    """

    def __init__(
        self, in_channels: int, channels: int, act: bool = True, kind: Kind = "single_norm", first: bool = False
    ) -> None:
        super().__init__()
        double = kind == "double_norm"
        self.norm = PointNorm(in_channels) if double and not first else None
        self.linear = nn.Linear(in_channels, channels, bias=False)
        self.bn = PointNorm(channels)
        self.act = (nn.PReLU() if double else Rectifier()) if act else None

    def forward(self, x: Tensor) -> Tensor:
        """The unit; see the class."""
        z: Tensor = self.bn(self.linear(x if self.norm is None else self.norm(x)))
        return z if self.act is None else self.act(z)


class SharedMLP(nn.Sequential):
    """Several `PointUnit`s in a row.

    Args:
        channels: of the input, then of each unit.
        last_act: whether the last unit has a rectifier; right before an aggregation it has none of its own.
        kind: of the units.
        first: the first unit reads the input of the network.

    """

    def __init__(
        self, channels: Sequence[int], last_act: bool = True, kind: Kind = "single_norm", first: bool = False
    ) -> None:
        last = len(channels) - 2
        super().__init__(
            *(
                PointUnit(channels[i], channels[i + 1], last_act or i < last, kind, first and i == 0)
                for i in range(len(channels) - 1)
            )
        )


class Head(nn.Module):
    """Units, dropout, and a linear layer that puts out scores: (..., in) to (..., classes)."""

    def __init__(self, channels: Sequence[int], classes: int, dropout: float = 0.0, kind: Kind = "single_norm") -> None:
        super().__init__()
        self.mlp = SharedMLP(channels, kind=kind)
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Linear(channels[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        found: Tensor = self.scores(self.dropout(self.mlp(x)))
        return found


def scaled(widths: Sequence[int], width: float) -> list[int]:
    """Numbers of channels times `width`, in whole eights, at least 8."""
    return [max(8, round(w * width / 8) * 8) for w in widths]

"""PointNet: classes of clouds, parts and scenes (Qi, Su, Mo, Guibas, CVPR 2017)."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.nn import Aggregation, Rectifier
from bnnapps.plugins.pointclouds.layers import Head, Kind, PointNorm, PointUnit, SharedMLP, scaled

PLACE = 3
"""A point's first numbers are x, y and z."""


class TransformNet(nn.Module):
    """T-Net: a matrix (B, k, k) for each cloud, made of its points; the identity plus what it learns.

    Args:
        size: k, and the number of channels that it reads.
        width: factor on its own channels.
        unit: of its units; with `double_norm` nothing is clipped before the maximum, and the matrix has a norm too.

    """

    def __init__(self, size: int, width: float = 1.0, unit: Kind = "single_norm") -> None:
        super().__init__()
        a, b, c, d, e = scaled((64, 128, 1024, 512, 256), width)
        self.size = size
        self.mlp = SharedMLP((size, a, b, c), last_act=False, kind=unit, first=size == PLACE)
        self.pool_act: nn.Module = nn.Identity() if unit == "double_norm" else Rectifier()
        self.pool = Aggregation("max")
        self.fc = SharedMLP((c, d, e), kind=unit)
        self.matrix_norm = PointNorm(e) if unit == "double_norm" else None
        self.matrix = nn.Linear(e, size * size)
        nn.init.zeros_(self.matrix.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, k) to (B, k, k)."""
        pooled = self.pool(self.pool_act(self.mlp(x)))
        features = self.fc(pooled)
        found: Tensor = self.matrix(features if self.matrix_norm is None else self.matrix_norm(features))
        return found.view(-1, self.size, self.size) + torch.eye(self.size, device=x.device, dtype=x.dtype)


class Trunk(nn.Module):
    """Features of every point and of the whole cloud.

    The input transform turns places; other numbers of a point stay. The feature transform stands behind unit
    `transform_after`. The last unit has no rectifier: what is pooled is normalised and not clipped.

    Args:
        channels: numbers of a point.
        widths: of the units.
        transform_after: behind so many units stands the feature transform.
        transforms: whether there are transforms at all; without them it is the "vanilla" PointNet.
        pool: `max` or `mean`.
        width: factor on the channels of the transforms.
        unit: of all units.

    """

    def __init__(
        self,
        channels: int,
        widths: list[int],
        transform_after: int,
        transforms: bool,
        pool: Any,
        width: float,
        unit: Kind,
    ) -> None:
        super().__init__()
        self.transform_after = transform_after
        self.input_transform = TransformNet(PLACE, width, unit) if transforms else None
        last = len(widths) - 1
        inputs = [channels, *widths[:-1]]
        self.units = nn.ModuleList(
            PointUnit(c, w, i < last, unit, first=i == 0) for i, (c, w) in enumerate(zip(inputs, widths, strict=True))
        )
        self.feature_transform = TransformNet(widths[transform_after - 1], width, unit) if transforms else None
        self.pool = Aggregation(pool)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, N, C) to the pooled feature (B, widths[-1]) and those of the points behind each unit."""
        if self.input_transform is not None:
            turned = torch.bmm(x[..., :PLACE], self.input_transform(x[..., :PLACE]))
            x = torch.cat([turned, x[..., PLACE:]], dim=-1) if x.shape[-1] > PLACE else turned
        found = []
        for i, unit in enumerate(self.units, 1):
            x = unit(x)
            if i == self.transform_after and self.feature_transform is not None:
                x = torch.bmm(x, self.feature_transform(x))
            found.append(x)
        return self.pool(x), found


def _check_unit(unit: str) -> None:
    known = get_args(Kind)
    if unit not in known:
        raise UsageError(f"unit is '{unit}': it must be one of {', '.join(known)}")


def _roles(head: str) -> dict[str, list[str]]:
    return {"first": ["trunk.units.0"], "heads": [head]}


class PointNet(nn.Module):
    """Scores (B, classes) for clouds (B, N, channels).

    Units of 64, 128 and 1024 channels on every point, the maximum over all points, then 512 and 256. With transforms,
    one of the places and one of the 64 features of each point.

    Args:
        classes: how many.
        channels: numbers of a point.
        transforms: with T-Nets.
        pool: `max` or `mean`, over the points of the trunk.
        width: factor on all inner channels.
        dropout: before the scores; 0.4 in float networks, none in published binary ones.
        unit: `single_norm` as published, or `double_norm` as POEM has it (`PointUnit`).

    Raises:
        UsageError: another kind of unit.

    """

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        transforms: bool = True,
        pool: str = "max",
        width: float = 1.0,
        dropout: float = 0.0,
        unit: Kind = "single_norm",
    ) -> None:
        _check_unit(unit)
        super().__init__()
        widths = scaled((64, 128, 1024), width)
        self.trunk = Trunk(channels, widths, 1, transforms, pool, width, unit)
        self.head = Head([widths[-1], *scaled((512, 256), width)], classes, dropout, unit)
        self.layer_roles = _roles("head.scores")

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        found: Tensor = self.head(self.trunk(x)[0])
        return found


class _PerPoint(nn.Module):
    """A trunk whose pooled feature stands beside those of each point, and a head on both."""

    trunk: Trunk
    head: Head
    beside: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, channels) to scores (B, N, classes)."""
        whole, points = self.trunk(x)
        spread = whole[:, None].expand(-1, x.shape[1], -1)
        found: Tensor = self.head(torch.cat([spread, *(points[i] for i in self.beside)], dim=-1))
        return found


class PointNetParts(_PerPoint):
    """Scores (B, N, classes) of the parts that points belong to.

    Units of 64, 128, 128, 512 and 2048 channels, the feature transform behind the third; the pooled feature beside
    those of all units, 4928 numbers a point; then 256, 256 and 128. Arguments as in `PointNet`.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        transforms: bool = True,
        pool: str = "max",
        width: float = 1.0,
        dropout: float = 0.0,
        unit: Kind = "single_norm",
    ) -> None:
        _check_unit(unit)
        super().__init__()
        widths = scaled((64, 128, 128, 512, 2048), width)
        self.trunk = Trunk(channels, widths, 3, transforms, pool, width, unit)
        self.beside = (0, 1, 2, 3, 4)
        self.head = Head([widths[-1] + sum(widths), *scaled((256, 256, 128), width)], classes, dropout, unit)
        self.layer_roles = _roles("head.scores")


class PointNetScene(_PerPoint):
    """Scores (B, N, classes) of the points of a scene.

    The trunk of `PointNet`; the pooled feature beside the 64 features of each point, 1088 numbers; then 512, 256 and
    128. Arguments as there; a point of S3DIS has nine channels.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 9,
        transforms: bool = True,
        pool: str = "max",
        width: float = 1.0,
        dropout: float = 0.0,
        unit: Kind = "single_norm",
    ) -> None:
        _check_unit(unit)
        super().__init__()
        widths = scaled((64, 128, 1024), width)
        self.trunk = Trunk(channels, widths, 1, transforms, pool, width, unit)
        self.beside = (0,)
        self.head = Head([widths[-1] + widths[0], *scaled((512, 256, 128), width)], classes, dropout, unit)
        self.layer_roles = _roles("head.scores")

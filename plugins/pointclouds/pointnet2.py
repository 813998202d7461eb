"""PointNet++ with one scale a level (Qi, Yi, Su, Guibas, NeurIPS 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnnapps.nn import Aggregation, Rectifier
from bnnapps.plugins.pointclouds.geometry import farthest_points, gather, in_ball
from bnnapps.plugins.pointclouds.layers import Head, SharedMLP, scaled
from bnnapps.plugins.pointclouds.pointnet import PLACE


class SetAbstraction(nn.Module):
    """Points far from each other, each with what a small PointNet makes of the ball around it.

    A neighbour enters as its features beside its place seen from the centre. A ball with fewer than `most` points shows
    its nearest one in their stead, to BatchNorm too; the aggregation counts only those that are there.

    Args:
        channels: of the input features and of each unit.
        ratio: share of the points that become centres.
        radius: of a ball.
        most: points that a ball holds at most.

    """

    def __init__(self, channels: Sequence[int], ratio: float, radius: float, most: int = 64) -> None:
        super().__init__()
        self.ratio, self.radius, self.most = ratio, radius, most
        self.mlp = SharedMLP((channels[0] + PLACE, *channels[1:]), last_act=False)
        self.pool_act = Rectifier()
        self.pool = Aggregation("max")

    def forward(self, places: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Places (B, N, 3) and features (B, N, C) to those of the centres."""
        chosen = farthest_points(places, max(1, round(places.shape[1] * self.ratio)))
        centres = gather(places, chosen)
        index, mask = in_ball(places, centres, self.radius, self.most)
        seen = gather(places, index) - centres[:, :, None]
        if features is not None:
            seen = torch.cat([gather(features, index), seen], dim=-1)
        return centres, self.pool(self.pool_act(self.mlp(seen)), mask)


class PointNet2(nn.Module):
    """Scores (B, classes) for clouds (B, N, channels).

    Half of the points with balls of radius 0.2 (64, 64, 128 channels), a quarter of these with radius 0.4 (128, 128,
    256), then all that is left (256, 512, 1024), then 512 and 256. Numbers of a point beyond its place are features.

    Args:
        classes: how many.
        channels: numbers of a point.
        width: factor on all inner channels.
        dropout: before the scores.
        most: points that a ball holds at most.

    """

    def __init__(
        self, classes: int, channels: int = 3, width: float = 1.0, dropout: float = 0.0, most: int = 64
    ) -> None:
        super().__init__()
        one, two, three = (scaled(w, width) for w in ((64, 64, 128), (128, 128, 256), (256, 512, 1024)))
        self.near = SetAbstraction((channels - PLACE, *one), 0.5, 0.2, most)
        self.far = SetAbstraction((one[-1], *two), 0.25, 0.4, most)
        self.mlp = SharedMLP((two[-1] + PLACE, *three), last_act=False)
        self.pool_act = Rectifier()
        self.pool = Aggregation("max")
        self.head = Head([three[-1], *scaled((512, 256), width)], classes, dropout)
        self.layer_roles = {"first": ["near.mlp.0"], "heads": ["head.scores"]}

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        places, features = x[..., :PLACE], x[..., PLACE:] if x.shape[-1] > PLACE else None
        places, found = self.far(*self.near(places, features))
        whole = self.pool(self.pool_act(self.mlp(torch.cat([found, places], dim=-1))))
        scores: Tensor = self.head(whole)
        return scores

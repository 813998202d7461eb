"""DGCNN: edges between the nearest neighbours in feature space (Wang et al., TOG 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnnapps.nn import Aggregation, Rectifier
from bnnapps.plugins.pointclouds.geometry import gather, nearest_neighbours
from bnnapps.plugins.pointclouds.layers import Head, SharedMLP, scaled


class DynamicEdgeConv(nn.Module):
    """For each point the maximum over its k nearest neighbours j of mlp([x_i, x_j - x_i]); (B, N, C) to (B, N, out).

    Neighbours are found anew in the features that come in; a point is its own nearest one.

    Args:
        channels: of the input and of each unit.
        neighbours: k.

    """

    def __init__(self, channels: Sequence[int], neighbours: int = 20) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.mlp = SharedMLP((2 * channels[0], *channels[1:]), last_act=False)
        self.pool_act = Rectifier()
        self.pool = Aggregation("max")

    def forward(self, x: Tensor) -> Tensor:
        """The new features."""
        other = gather(x, nearest_neighbours(x, self.neighbours))
        own = x[:, :, None].expand_as(other)
        edges = self.mlp(torch.cat([own, other - own], dim=-1))
        found: Tensor = self.pool(self.pool_act(edges))
        return found


class DGCNN(nn.Module):
    """Scores (B, classes) for clouds (B, N, channels).

    Edge convolutions one behind the other, a unit of `embedding` channels on what all of them found, the maximum over
    the points (beside their mean with `both_pools`), then 512 and 256.

    Args:
        classes: how many.
        channels: numbers of a point.
        edges: the widths of the units of each edge convolution: [[64], [64], [128], [256]] in the paper,
            [[64, 64, 64], [128]] in the binary network of BiPointNet.
        embedding: channels before the global aggregation.
        both_pools: maximum and mean, as in the paper's code.
        neighbours: k.
        width: factor on all inner channels.
        dropout: before the scores.

    """

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        edges: Sequence[Sequence[int]] = ((64, 64, 64), (128,)),
        embedding: int = 1024,
        both_pools: bool = False,
        neighbours: int = 20,
        width: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        convs, last, total = [], channels, 0
        for widths in edges:
            own = scaled(widths, width)
            convs.append(DynamicEdgeConv((last, *own), neighbours))
            last, total = own[-1], total + own[-1]
        self.convs = nn.ModuleList(convs)
        (wide,) = scaled((embedding,), width)
        self.mlp = SharedMLP((total, wide), last_act=False)
        self.pool_act = Rectifier()
        self.pool = Aggregation("max")
        self.mean = Aggregation("mean") if both_pools else None
        self.head = Head([wide * (1 + both_pools), *scaled((512, 256), width)], classes, dropout)
        self.layer_roles = {"first": ["convs.0.mlp.0"], "heads": ["head.scores"]}

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        found = []
        for conv in self.convs:
            x = conv(x)
            found.append(x)
        points = self.pool_act(self.mlp(torch.cat(found, dim=-1)))
        whole = self.pool(points)
        if self.mean is not None:
            whole = torch.cat([whole, self.mean(points)], dim=-1)
        scores: Tensor = self.head(whole)
        return scores

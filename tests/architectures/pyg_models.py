"""Eight graph networks of PyTorch Geometric."""

from __future__ import annotations

from typing import Any

import torch
import torch_geometric.nn as g
from torch import Tensor, nn

from architectures import Architecture

WIDTHS: dict[str, Any] = {"in_channels": 6, "hidden_channels": 8, "num_layers": 5, "out_channels": 3}


def graph() -> tuple[Tensor, Tensor]:
    edges = torch.randint(0, 12, (2, 40))
    return torch.randn(12, 6), edges


def cloud() -> tuple[Tensor, Tensor]:
    return torch.randn(32, 3), torch.arange(2).repeat_interleave(16)


class PointNet(nn.Module):
    """One set abstraction of PointNet++: sampled centres, their neighbours, a local network, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = g.PointNetConv(g.MLP([3 + 3, 8, 8], norm=None), g.MLP([8, 8], norm=None))
        self.whole = g.MLP([8 + 3, 8, 8])
        self.head = g.MLP([8, 8, 4], norm=None)

    def forward(self, positions: Tensor, batch: Tensor) -> Tensor:
        centres = torch.arange(0, len(positions), 2)
        near = torch.cdist(positions[centres], positions) + 1e6 * (batch[centres][:, None] != batch)
        neighbours = near.topk(4, largest=False).indices
        edges = torch.stack([neighbours.flatten(), torch.arange(len(centres)).repeat_interleave(4)])
        x = self.conv((positions, positions[centres]), (positions, positions[centres]), edges)
        x = self.whole(torch.cat([x, positions[centres]], dim=1))
        result: Tensor = self.head(g.global_max_pool(x, batch[centres]))
        return result


class DGCNN(nn.Module):
    """Edge convolutions on a cloud of points (Wang et al., 2019), over neighbours that are given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = g.EdgeConv(g.MLP([6, 8, 8])), g.EdgeConv(g.MLP([16, 8]))
        self.head = g.MLP([16, 8, 4], norm=None)

    def forward(self, positions: Tensor, batch: Tensor) -> Tensor:
        near = torch.cdist(positions, positions) + 1e6 * (batch[:, None] != batch)
        neighbours = near.topk(4, largest=False).indices
        edges = torch.stack([neighbours.flatten(), torch.arange(len(positions)).repeat_interleave(4)])
        a = self.first(positions, edges)
        b = self.second(a, edges)
        result: Tensor = self.head(g.global_max_pool(torch.cat([a, b], dim=1), batch))
        return result


class Transformer(nn.Module):
    """Two attention convolutions with features of edges (Shi et al., 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = g.TransformerConv(6, 4, heads=2, edge_dim=2, beta=True)
        self.second = g.TransformerConv(8, 3, edge_dim=2)

    def forward(self, x: Tensor, edges: Tensor, features: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(x, edges, features).relu(), edges, features)
        return result


PYG: dict[str, Architecture] = {
    "GCN": Architecture(lambda: g.GCN(**WIDTHS), graph),
    "GraphSAGE": Architecture(lambda: g.GraphSAGE(**WIDTHS), graph),
    "GAT": Architecture(lambda: g.GAT(**WIDTHS, heads=2), graph),
    "GIN": Architecture(lambda: g.GIN(**WIDTHS), graph),
    "Graph U-Net": Architecture(lambda: g.GraphUNet(6, 8, 3, depth=2), graph),
    "Graph Transformer": Architecture(Transformer, lambda: (*graph(), torch.randn(40, 2))),
    "DGCNN": Architecture(DGCNN, cloud),
    "PointNet++": Architecture(PointNet, cloud),
}

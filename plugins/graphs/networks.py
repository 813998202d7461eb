"""Networks for nodes, graphs and links, of one kind of convolution."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.utils import scatter

from bnnapps.nn.functional import dropped
from bnnapps.plugins.graphs.config import GraphModel, Target
from bnnapps.plugins.graphs.layers import activation, batch_norm, convolution

_POOLS = {"add": "sum", "mean": "mean", "max": "max"}


class Encoder(nn.Module):
    """Convolutions in a row: for each, dropout, norm, convolution, norm, non-linearity, where the recipe has them.

    The last convolution has neither norm nor non-linearity behind it, unless something follows (`followed`).
    """

    def __init__(self, settings: GraphModel, features: int, out: int, followed: bool) -> None:
        super().__init__()
        count = settings.layers
        widths = [features, *[settings.hidden] * (count - 1), out]
        pairs = list(itertools.pairwise(widths))
        before = settings.norm == "before" and settings.name not in ("gin", "edge")  # these have it inside
        self.dropout = settings.dropout
        self.input_norm = (
            nn.BatchNorm1d(features, affine=False, momentum=settings.norm_momentum) if settings.input_norm else None
        )
        self.norms = nn.ModuleList([batch_norm(i, settings) for i, _ in pairs] if before else [])
        self.convs = nn.ModuleList(
            [convolution(settings, i, o, last=n == count - 1 and not followed) for n, (i, o) in enumerate(pairs)]
        )
        ends = pairs if followed else pairs[:-1]
        self.after = nn.ModuleList([batch_norm(o, settings) for _, o in ends] if settings.norm == "after" else [])
        self.activations = nn.ModuleList([activation(settings) for _ in ends])

    def forward(self, x: Tensor, edges: Tensor) -> list[Tensor]:
        """What every layer gives, (N, width) each."""
        found = []
        if self.input_norm is not None:
            x = self.input_norm(x)
        for i, conv in enumerate(self.convs):
            if self.training and self.dropout > 0:
                x = dropped(x, self.dropout)
            if len(self.norms):
                x = self.norms[i](x)
            x = conv(x, edges)
            if i < len(self.after):
                x = self.after[i](x)
            if i < len(self.activations):
                x = self.activations[i](x)
            found.append(x)
        return found


class NodeClassifier(nn.Module):
    """Logits of each node, (N, F) and edges (2, E) to (N, classes)."""

    def __init__(self, settings: GraphModel, features: int, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(settings, features, settings.hidden if settings.head else classes, settings.head)
        self.head = nn.Linear(settings.hidden, classes) if settings.head else None
        heads = ["head"] if settings.head else [f"encoder.convs.{settings.layers - 1}"]
        self.layer_roles = {"first": ["encoder.convs.0"], "heads": heads}

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """The logits."""
        found: Tensor = self.encoder(x, edges)[-1]
        if self.head is not None:
            found = self.head(found)
        return found

    def embed(self, x: Tensor, edges: Tensor) -> Tensor:
        """What the head, or the last convolution, reads of each node; the features where that is the only one."""
        found: list[Tensor] = self.encoder(x, edges)
        if self.head is not None:
            return found[-1]
        return found[-2] if len(found) > 1 else x


class GraphClassifier(nn.Module):
    """Logits of each graph in a batch, from the sum, mean or maximum of its nodes: (graphs, classes)."""

    def __init__(self, settings: GraphModel, features: int, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(settings, features, settings.hidden, followed=True)
        width = settings.hidden * (settings.layers if settings.jump else 1)
        self.norm = nn.Identity() if settings.norm == "none" else batch_norm(width, settings)
        self.head = nn.Linear(width, classes)
        self.jump, self.pool, self.dropout = settings.jump, _POOLS[settings.pool], settings.dropout
        self.layer_roles = {"first": ["encoder.convs.0"], "heads": ["head"]}

    def forward(self, x: Tensor, edges: Tensor, batch: Tensor) -> Tensor:
        """The logits; `batch` (N,) has the number of each node's graph, ascending."""
        found: Tensor = self.head(F.dropout(self.embed(x, edges, batch), self.dropout, self.training))
        return found

    def embed(self, x: Tensor, edges: Tensor, batch: Tensor) -> Tensor:
        """What the head reads of each graph."""
        graphs = int(batch[-1]) + 1 if len(batch) else 0
        found = self.encoder(x, edges)
        chosen = found if self.jump else found[-1:]
        result: Tensor = self.norm(torch.cat([scatter(h, batch, 0, graphs, self.pool) for h in chosen], dim=1))
        return result


class LinkPredictor(nn.Module):
    """Logits (0, z_a . z_b) of each pair, not linked and linked, for the embeddings z of its nodes: (P, 2).

    Kipf, Welling: Variational Graph Auto-Encoders, 2016 (the plain one).
    """

    def __init__(self, settings: GraphModel, features: int) -> None:
        super().__init__()
        self.encoder = Encoder(settings, features, settings.hidden, followed=False)
        self.layer_roles = {
            "first": ["encoder.convs.0"],
            "heads": [f"encoder.convs.{settings.layers - 1}"] if settings.layers > 1 else [],
        }

    def forward(self, x: Tensor, edges: Tensor, pairs: Tensor) -> Tensor:
        """The logits."""
        z = self.embed(x, edges)
        score = (z[pairs[0]] * z[pairs[1]]).sum(1)
        return torch.stack([torch.zeros_like(score), score], dim=1)

    def embed(self, x: Tensor, edges: Tensor) -> Tensor:
        """The embedding of each node."""
        found: Tensor = self.encoder(x, edges)[-1]
        return found


def build_network(settings: GraphModel, target: Target, features: int, classes: int) -> nn.Module:
    """The float network for a target, with random weights from torch's generator."""
    if target == "node":
        return NodeClassifier(settings, features, classes)
    if target == "graph":
        return GraphClassifier(settings, features, classes)
    return LinkPredictor(settings, features)

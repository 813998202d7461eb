"""DGCNN as published, and with activations that become signs: real features, or binary ones with XOR edges."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.nn import Squash
from bnnapps.plugins.graphs.knn import Distance, neighbours
from bnnapps.plugins.graphs.xor import edge_features

Edges = Literal["float", "real", "xor"]
NormAt = Literal["after_max", "before_max"]
_SLOPE = 0.2


@dataclass(frozen=True)
class Structure:
    """Features of the points (B, N, C) and the neighbours that were found among them (B, N, k)."""

    features: Tensor
    index: Tensor


class FloatEdgeConv(nn.Module):
    """max over k of LeakyReLU(BN(W [x_j - x_i, x_i])), slope 0.2 (Wang et al., ACM TOG 2019)."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * into, out, bias=False)
        self.norm = nn.BatchNorm1d(out)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """(B, N, into) and neighbours (B, N, k) to (B, N, out)."""
        edges = edge_features(x, index, binary=False)
        return F.leaky_relu(_normed(self.norm, self.linear(edges)), _SLOPE).amax(dim=2)


class RealEdgeConv(nn.Module):
    """RF: max over k of PReLU(W squash(BN([x_j - x_i, x_i]))); features stay real between layers.

    `first`: the coordinates have no squash.
    """

    def __init__(self, into: int, out: int, first: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2 * into)
        self.squash = nn.Identity() if first else Squash()
        self.linear = nn.Linear(2 * into, out, bias=False)
        self.activation = nn.PReLU()

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """(B, N, into) and neighbours (B, N, k) to (B, N, out)."""
        edges = self.squash(_normed(self.norm, edge_features(x, index, binary=False)))
        found: Tensor = self.activation(self.linear(edges)).amax(dim=2)
        return found


class XorEdgeConv(nn.Module):
    """BF: squash(BN(max over k of PReLU(W [xor(x_j, x_i), x_i]))); features are binary between layers.

    With `norm_at: before_max` (the second variant) the norm stands before the maximum. `first`: the edges of the
    coordinates are [x_j - x_i, x_i], and real.

    Bahri, Bahl, Zafeiriou, CVPR 2021.
    """

    def __init__(self, into: int, out: int, first: bool, norm_at: NormAt) -> None:
        super().__init__()
        self.binary, self.norm_at = not first, norm_at
        self.linear = nn.Linear(2 * into, out, bias=False)
        self.activation = nn.PReLU()
        self.norm = nn.BatchNorm1d(out)
        self.squash = Squash()

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """(B, N, into) and neighbours (B, N, k) to (B, N, out), of -1 and +1 once squash is a sign."""
        found = self.activation(self.linear(edge_features(x, index, self.binary)))
        if self.norm_at == "before_max":
            found = _normed(self.norm, found).amax(dim=2)
        else:
            found = _normed(self.norm, found.amax(dim=2))
        result: Tensor = self.squash(found)
        return result


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    """BatchNorm over the last dimension, statistics over all others."""
    found: Tensor = norm(x.reshape(-1, x.shape[-1]))
    return found.view_as(x)


class BinaryDGCNN(nn.Module):
    """Classes of clouds (B, N, 3), by edge convolutions over neighbours that each layer finds anew.

    k neighbours, widths 64, 64, 128, 256; their concatenation goes through one linear layer to 1024 features, whose
    maximum and mean over the points go through 512 and 256 features to the classes. Before each of these layers stand a
    BatchNorm and `Squash`, behind it a PReLU with one slope; before the last one a BatchNorm alone. A float network has
    tanh for `Squash`; `binarize` makes it a sign, so the cascade is: tanh, signs, signs and binary weights. With
    `edges: float` it is the DGCNN that teaches the first of them: each layer is followed by a BatchNorm and a LeakyReLU
    of slope 0.2, and there is no `Squash`.

    Wang et al., DGCNN, ACM TOG 2019; Bahri et al., CVPR 2021.

    Args:
        classes: how many.
        widths: of the edge convolutions.
        embedding: features of a point before the pooling.
        head: features of the two hidden layers behind it.
        k: neighbours, the point itself among them.
        edges: `xor` (features between layers are binary), `real`, or `float`.
        norm_at: for `xor`, before or after the maximum.
        neighbors: distance that the neighbours of features have; those of coordinates have the Euclidean one.
        dropout: behind the hidden layers of the head.

    Raises:
        UsageError: sizes that are not positive.

    """

    def __init__(
        self,
        classes: int,
        widths: Sequence[int] = (64, 64, 128, 256),
        embedding: int = 1024,
        head: Sequence[int] = (512, 256),
        k: int = 20,
        edges: Edges = "xor",
        norm_at: NormAt = "after_max",
        neighbors: Distance = "hamming",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        choices: dict[str, tuple[str, tuple[str, ...]]] = {
            "edges": (edges, ("float", "real", "xor")),
            "norm_at": (norm_at, ("after_max", "before_max")),
            "neighbors": (neighbors, ("l2", "hamming")),
        }
        for name, (value, known) in choices.items():
            if value not in known:
                raise UsageError(f"{name} is '{value}': it must be one of {', '.join(known)}")
        if min(*widths, embedding, *head, k) < 1 or not widths or not 0 <= dropout < 1:
            raise UsageError("widths, embedding, head and k must be positive, and dropout below 1")
        if edges == "float" and neighbors == "hamming":
            raise UsageError("edges 'float' gives features without signs: set neighbors to l2")
        sizes = [3, *widths]
        self.k, self.distance, self.dropout = k, neighbors, dropout
        self.edges = nn.ModuleList(
            [_edge_conv(edges, i, o, n == 0, norm_at) for n, (i, o) in enumerate(itertools.pairwise(sizes))]
        )
        hidden = [2 * embedding, *head]
        if edges == "float":
            self.join: nn.Module = _FloatBlock(sum(widths), embedding)
            blocks: list[nn.Module] = [_FloatBlock(i, o) for i, o in itertools.pairwise(hidden)]
        else:
            self.join = _Block(sum(widths), embedding, normed=edges == "real")
            blocks = [_Block(i, o, True) for i, o in itertools.pairwise(hidden)]
        self.hidden = nn.ModuleList(blocks)
        self.head_norm = nn.Identity() if edges == "float" else nn.BatchNorm1d(hidden[-1])
        self.head = nn.Linear(hidden[-1], classes)
        self.layer_roles = {"first": ["edges.0.linear"], "heads": ["head"]}

    def forward(self, points: Tensor) -> Tensor:
        """The logits, (B, classes)."""
        return self.structured(points)[0]

    def structured(self, points: Tensor) -> tuple[Tensor, list[Structure]]:
        """The logits, and what the layers behind the first found neighbours among."""
        x, structures = self._points(points)
        found: Tensor = self.head(self._hidden(x))
        return found, structures

    def embed(self, points: Tensor) -> Tensor:
        """What the head reads of each cloud."""
        return self._hidden(self._points(points)[0])

    def _points(self, points: Tensor) -> tuple[Tensor, list[Structure]]:
        x, structures, layers = points, [], []
        for number, layer in enumerate(self.edges):
            index = neighbours(x, self.k, "l2" if number == 0 else self.distance)
            if number:
                structures.append(Structure(x, index))
            x = layer(x, index)
            layers.append(x)
        return self.join(torch.cat(layers, dim=-1)), structures

    def _hidden(self, x: Tensor) -> Tensor:
        x = torch.cat([x.amax(dim=1), x.mean(dim=1)], dim=1)
        for block in self.hidden:
            x = F.dropout(block(x), self.dropout, self.training)
        normed: Tensor = self.head_norm(x)
        return normed


def _edge_conv(edges: Edges, into: int, out: int, first: bool, norm_at: NormAt) -> nn.Module:
    if edges == "float":
        return FloatEdgeConv(into, out)
    return RealEdgeConv(into, out, first) if edges == "real" else XorEdgeConv(into, out, first, norm_at)


class _FloatBlock(nn.Module):
    """LeakyReLU(BN(W x)), slope 0.2."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(into, out, bias=False)
        self.norm = nn.BatchNorm1d(out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., into) to (..., out)."""
        return F.leaky_relu(_normed(self.norm, self.linear(x)), _SLOPE)


class _Block(nn.Module):
    """PReLU(W squash(BN(x))); `normed: False`: x is binary already."""

    def __init__(self, into: int, out: int, normed: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(into) if normed else None
        self.squash = Squash() if normed else None
        self.linear = nn.Linear(into, out, bias=False)
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(..., into) to (..., out)."""
        if self.norm is not None and self.squash is not None:
            x = self.squash(_normed(self.norm, x))
        found: Tensor = self.activation(self.linear(x))
        return found

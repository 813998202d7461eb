"""Graphs in memory, and the checks that every source passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bnnapps.errors import DataError

NONE, TRAIN, DEV, TEST = 0, 1, 2, 3
"""The part that a node or graph belongs to."""


@dataclass(frozen=True)
class NodeGraph:
    """One graph whose nodes have features and classes.

    Attributes:
        x: float32, (N, F).
        edges: int64, (2, E): each undirected edge in both directions, once, without loops.
        labels: (N,), class numbers; -1 where it is not known.
        parts: (N,), of NONE, TRAIN, DEV, TEST.
        classes: their names.
        description: for the report: name, and whether it is real or generated.
        origin: for messages: the file, folder or generator.
    """

    x: Tensor
    edges: Tensor
    labels: Tensor
    parts: Tensor
    classes: tuple[str, ...]
    description: str
    origin: str

    def __len__(self) -> int:
        return len(self.x)

    @property
    def isolated(self) -> int:
        """Nodes without a neighbour; a convolution with self-loops gives them their own features."""
        return len(self) - len(self.edges.unique())


@dataclass(frozen=True)
class SmallGraph:
    """One of many graphs: features (n, F), edges (2, e) in both directions, and a class. It may have no edges."""

    x: Tensor
    edges: Tensor
    label: int


@dataclass(frozen=True)
class GraphSet:
    """Graphs with a class each.

    Attributes:
        graphs: in the order of the files.
        parts: (number of graphs,), of NONE, TRAIN, DEV, TEST.
        classes, description, origin: as in `NodeGraph`.
    """

    graphs: Sequence[SmallGraph]
    parts: Tensor
    classes: tuple[str, ...]
    description: str
    origin: str

    def __len__(self) -> int:
        return len(self.graphs)

    @property
    def features(self) -> int:
        """F, the features of a node."""
        return int(self.graphs[0].x.shape[1])

    def of(self, *parts: int) -> list[int]:
        """The indices of the graphs that belong to one of the parts."""
        return torch.isin(self.parts, torch.tensor(parts)).nonzero().flatten().tolist()


def undirected(pairs: Tensor, nodes: int, origin: str | Path) -> Tensor:
    """Pairs of nodes (2, P) as edges in both directions, each once, without loops, sorted.

    Raises:
        DataError: a pair names a node that does not exist.
    """
    pairs = pairs.reshape(2, -1).long()
    if pairs.numel():
        outside = (pairs < 0) | (pairs >= nodes)
        if bool(outside.any()):
            column = int(outside.any(0).nonzero()[0])
            a, b = pairs[:, column].tolist()
            raise DataError(
                f"{origin}: the edge from {a} to {b} names a node that does not exist: there are {nodes} nodes, 0 to "
                f"{nodes - 1}; remove the edge, or add the node"
            )
    pairs = pairs[:, pairs[0] != pairs[1]]
    keys = torch.cat([pairs[0] * nodes + pairs[1], pairs[1] * nodes + pairs[0]]).unique()
    return torch.stack([keys // max(1, nodes), keys % max(1, nodes)])


def checked_features(x: Tensor, origin: str | Path) -> Tensor:
    """The features as float32.

    Raises:
        DataError: there are none, or one is not finite.
    """
    if x.dim() != 2 or x.shape[0] == 0 or x.shape[1] == 0:
        raise DataError(f"{origin}: the features have the shape {tuple(x.shape)}; expected (nodes, features)")
    bad = (~torch.isfinite(x)).nonzero()
    if len(bad):
        node, feature = bad[0].tolist()
        raise DataError(f"{origin}: feature {feature} of node {node} is {float(x[node, feature])}: correct it")
    return x.float()


def unit_rows(x: Tensor) -> Tensor:
    """Each row divided by its sum, which is 1 afterwards (rows of zeros stay): what PyG calls NormalizeFeatures."""
    return x / x.sum(dim=1, keepdim=True).clamp(min=1.0)


def drawn_parts(labels: Tensor, per_class: int, dev: int, test: int, seed: int, origin: str) -> Tensor:
    """A split as Planetoid's: so many training nodes of each class, then `dev` and `test` of the others, drawn.

    Raises:
        DataError: a class has too few nodes, or there are too few for the other parts.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order] >= 0]
    parts = torch.full((len(labels),), NONE, dtype=torch.long)
    for number in labels[order].unique().tolist():
        chosen = order[labels[order] == number][:per_class]
        if len(chosen) < per_class:
            raise DataError(f"{origin}: class {number} has {len(chosen)} nodes, and {per_class} a class are to train")
        parts[chosen] = TRAIN
    rest = order[parts[order] == NONE]
    if len(rest) < dev + test:
        raise DataError(f"{origin}: {len(rest)} nodes are left for {dev} dev and {test} test nodes: lower the numbers")
    parts[rest[:dev]] = DEV
    parts[rest[dev : dev + test]] = TEST
    return parts


def folds_of(labels: Tensor, folds: int, fold: int, seed: int) -> Tensor:
    """A stratified split: fold `fold` is the test set, the next one the dev set, the rest trains.

    Each class is shuffled with the seed and dealt out to the folds in turn, going on where the class before stopped, so
    that sizes differ by one at most.
    """
    generator = torch.Generator().manual_seed(seed)
    number = torch.empty(len(labels), dtype=torch.long)
    at = 0
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        number[members] = (torch.arange(len(members)) + at) % folds
        at += len(members)
    parts = torch.full((len(labels),), TRAIN, dtype=torch.long)
    parts[number == (fold + 1) % folds] = DEV
    parts[number == fold] = TEST
    return parts

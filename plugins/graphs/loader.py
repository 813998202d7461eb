"""Batches of nodes, graphs, links and clouds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnnapps.plugins.graphs.links import Links, unlinked
from bnnapps.plugins.graphs.sets import NodeGraph, SmallGraph
from bnnapps.training.loader import EpochLoader

Batch = dict[str, Tensor]


class _Everything:
    """One batch, handed out so many times an epoch; random parts of it follow from the epoch."""

    def __init__(self, times: int) -> None:
        self.times, self.epoch = times, 0

    def __len__(self) -> int:
        return self.times

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> Batch:
        """The batch."""
        raise NotImplementedError


class WholeGraph(_Everything):
    """The whole graph, and the nodes that count: `{"x", "edges", "rows", "labels", "part"}`."""

    def __init__(self, graph: NodeGraph, x: Tensor, parts: Sequence[int], times: int = 1) -> None:
        super().__init__(times)
        rows = (torch.isin(graph.parts, torch.tensor(parts)) & (graph.labels >= 0)).nonzero().flatten()
        self.batch = {
            "x": x,
            "edges": graph.edges,
            "rows": rows,
            "labels": graph.labels[rows],
            "part": graph.parts[rows],
        }

    def collate(self, indices: list[int]) -> Batch:
        """The same tensors each time."""
        return dict(self.batch)


class WholeLinks(_Everything):
    """The graph of training links, and pairs to tell apart: `{"x", "edges", "pairs", "labels", "part"}`.

    In training every link comes with a pair that has none, drawn anew for each batch; `size` takes so many links.
    """

    def __init__(self, links: Links, x: Tensor, seed: int, size: int | None, times: int) -> None:
        steps = times if size is None else -(-links.train.shape[1] // size)
        super().__init__(steps)
        self.links, self.x, self.seed, self.size = links, x, seed, size

    def collate(self, indices: list[int]) -> Batch:
        """Links and as many pairs without one."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch * 10_007 + indices[0]) % 2**63)
        chosen = self.links.train
        if self.size is not None:
            order = torch.randperm(
                chosen.shape[1], generator=torch.Generator().manual_seed((self.seed * 101 + self.epoch) % 2**63)
            )
            chosen = chosen[:, order[indices[0] * self.size : (indices[0] + 1) * self.size]]
        without = unlinked(self.links.keys, self.links.nodes, chosen.shape[1], generator)
        return pairs_batch(self.x, self.links.messages, [(chosen, 1, 1), (without, 0, 1)])


class HeldOutLinks(_Everything):
    """Dev and test links with as many pairs without a link, the same each time."""

    def __init__(self, links: Links, x: Tensor) -> None:
        super().__init__(1)
        groups = [(links.dev, 1, 2), (links.dev_without, 0, 2), (links.test, 1, 3), (links.test_without, 0, 3)]
        self.batch = pairs_batch(x, links.messages, groups)

    def collate(self, indices: list[int]) -> Batch:
        """The same tensors each time."""
        return dict(self.batch)


def pairs_batch(x: Tensor, messages: Tensor, groups: Sequence[tuple[Tensor, int, int]]) -> Batch:
    """A batch of groups of pairs, each with its label and its part."""
    pairs = torch.cat([p for p, _, _ in groups], dim=1)
    labels = torch.cat([torch.full((p.shape[1],), label) for p, label, _ in groups])
    part = torch.cat([torch.full((p.shape[1],), number) for p, _, number in groups])
    return {"x": x, "edges": messages, "pairs": pairs, "labels": labels, "part": part}


class Neighbourhoods:
    """Drawn neighbourhoods of some nodes of a large graph, by PyTorch Geometric's neighbour loader.

    A batch is that of `WholeGraph`, of the nodes that were reached; the first `rows` are those that count.
    """

    def __init__(self, graph: NodeGraph, x: Tensor, parts: Sequence[int], neighbors: Sequence[int], seed: int) -> None:
        from torch_geometric.data import Data
        from torch_geometric.loader import NeighborLoader

        from bnnapps.plugins.graphs.sampler import SeededNeighborSampler

        self.sampler = SeededNeighborSampler(graph.edges, len(graph), neighbors)
        chosen = (torch.isin(graph.parts, torch.tensor(parts)) & (graph.labels >= 0)).nonzero().flatten()
        whole = Data(x=x, edge_index=graph.edges, y=graph.labels, part=graph.parts, num_nodes=len(graph))
        self.loader: Any = NeighborLoader(whole, list(neighbors), chosen, neighbor_sampler=self.sampler)
        self.count, self.seed, self.epoch = len(chosen), seed, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> Batch:
        """The neighbourhood of some of the nodes."""
        self.sampler.seed(self.seed * 1_000_003 + self.epoch * 10_007 + indices[0] * 31 + len(indices))
        found = self.loader.collate_fn(indices)
        data = self.loader.filter_fn(found) if not hasattr(found, "edge_index") else found
        rows = torch.arange(len(indices))
        return {"x": data.x, "edges": data.edge_index, "rows": rows, "labels": data.y[rows], "part": data.part[rows]}


class Graphs:
    """Several small graphs in one batch, which has no edges between them: `{"x", "edges", "batch", "labels", "part"}`.

    A graph may have no edges; it stays apart by its number in `batch`.
    """

    def __init__(self, graphs: Sequence[SmallGraph], parts: Tensor) -> None:
        self.graphs, self.parts, self.epoch = graphs, parts, 0

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> Batch:
        """The chosen graphs as one that falls apart into them."""
        chosen = [self.graphs[i] for i in indices]
        sizes = torch.tensor([len(g.x) for g in chosen])
        offsets = sizes.cumsum(0) - sizes
        edges = torch.cat([g.edges + o for g, o in zip(chosen, offsets, strict=True)], dim=1)
        return {
            "x": torch.cat([g.x for g in chosen]),
            "edges": edges,
            "batch": torch.arange(len(chosen)).repeat_interleave(sizes),
            "labels": torch.tensor([g.label for g in chosen]),
            "part": self.parts[torch.tensor(indices)],
        }


class Clouds:
    """Clouds of points: `{"points", "labels", "part"}`, points of (B, N, 3).

    In training they are scaled by 2/3 to 3/2 along each axis and moved by up to 0.2, and other points are taken each
    epoch (Wang et al., DGCNN, 2019).
    """

    def __init__(self, clouds: Any, points: int, part: int, seed: int, train: bool) -> None:
        self.clouds, self.points, self.part, self.seed, self.train = clouds, points, part, seed, train
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.clouds)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> Batch:
        """The chosen clouds."""
        found, labels = [], []
        for index in indices:
            random = np.random.default_rng((self.seed, self.epoch, index)) if self.train else None
            points, label = self.clouds.at(index, self.points, random)
            points = points[:, :3]
            if random is not None:
                scale, shift = random.uniform(2 / 3, 3 / 2, 3), random.uniform(-0.2, 0.2, 3)
                points = points * torch.from_numpy(scale).float() + torch.from_numpy(shift).float()
            found.append(points)
            labels.append(label)
        part = torch.full((len(indices),), self.part)
        return {"points": torch.stack(found), "labels": torch.stack(labels), "part": part}


Examples = WholeGraph | WholeLinks | HeldOutLinks | Neighbourhoods | Graphs | Clouds


class GraphLoader(EpochLoader):
    """Batches of examples, whose random parts follow from the epoch."""

    def __init__(self, examples: Examples, batch_size: int, seed: int, shuffle: bool) -> None:
        super().__init__(examples, examples.collate, batch_size, seed, shuffle=shuffle)  # type: ignore[arg-type]
        self.examples = examples

    def set_epoch(self, epoch: int) -> None:
        """Start the given epoch from its first batch."""
        super().set_epoch(epoch)
        self.examples.epoch = epoch

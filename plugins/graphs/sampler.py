"""Neighbourhoods of a few nodes, drawn for PyTorch Geometric's neighbour loader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.sampler import BaseSampler, NodeSamplerInput, SamplerOutput


class SeededNeighborSampler(BaseSampler):
    """Draws neighbours without replacement, hop by hop (GraphSAGE, Hamilton et al., NeurIPS 2017).

    What `torch_geometric.loader.NeighborLoader` takes as its `neighbor_sampler`. Unlike PyG's own samplers it needs
    neither pyg-lib nor torch-sparse, and it draws from one generator that is seeded before each batch, so that batches
    follow from (seed, epoch, batch) and a resumed run sees what an unbroken run sees.

    A node's neighbours are the sources of the edges that lead to it; of a node that was reached at one hop they are
    drawn at the next. Edges of the sample lead towards the nodes that were asked for.

    Args:
        edges: (2, E), from source to target.
        nodes: how many there are.
        neighbors: how many are drawn at each hop; -1: all.
    """

    def __init__(self, edges: Tensor, nodes: int, neighbors: Sequence[int]) -> None:
        self.order = edges[1].argsort(stable=True)
        self.sources = edges[0][self.order]
        count = torch.bincount(edges[1], minlength=nodes)
        self.ends = count.cumsum(0)
        self.starts = self.ends - count
        self.nodes, self.neighbors = nodes, list(neighbors)
        self.generator = torch.Generator()

    def seed(self, number: int) -> None:
        """Draw the next batch from this seed."""
        self.generator.manual_seed(number % 2**63)

    @property
    def edge_permutation(self) -> Tensor | None:
        """Edges of the output are numbered as in `edges`."""
        return None

    def sample_from_nodes(self, inputs: NodeSamplerInput, **kwargs: Any) -> SamplerOutput:
        """The neighbourhood of some different nodes, which come first in the output."""
        found = inputs.node.long()
        local = torch.full((self.nodes,), -1, dtype=torch.long)
        local[found] = torch.arange(len(found))
        rows, columns, edges = [], [], []
        sizes, counts, frontier = [len(found)], [], found
        for wanted in self.neighbors:
            chosen, targets = self._drawn(frontier, wanted)
            sources = self.sources[chosen]
            fresh = sources[local[sources] < 0].unique()
            local[fresh] = torch.arange(len(fresh)) + len(found)
            found = torch.cat([found, fresh])
            rows.append(local[sources])
            columns.append(local[targets])
            edges.append(self.order[chosen])
            sizes.append(len(fresh))
            counts.append(len(chosen))
            frontier = fresh
        return SamplerOutput(
            node=found,
            row=torch.cat(rows),
            col=torch.cat(columns),
            edge=torch.cat(edges),
            num_sampled_nodes=sizes,
            num_sampled_edges=counts,
            metadata=(inputs.input_id, inputs.time),
        )

    def sample_from_edges(self, *args: Any, **kwargs: Any) -> Any:
        """Links are trained on the whole graph."""
        raise NotImplementedError

    def _drawn(self, targets: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
        """Positions of up to `wanted` edges that lead to each target, and the target of each."""
        count = self.ends[targets] - self.starts[targets]
        owner = torch.arange(len(targets)).repeat_interleave(count)
        first = count.cumsum(0) - count
        place = torch.arange(len(owner)) - first[owner]
        if wanted >= 0 and len(owner):
            # Each edge gets a random number; those with the lowest of a target are taken.
            keys = torch.rand(len(owner), generator=self.generator, dtype=torch.float64) + owner
            rank = torch.empty_like(owner)
            rank[keys.argsort()] = torch.arange(len(owner))
            kept = rank - first[owner] < wanted
            owner, place = owner[kept], place[kept]
        return self.starts[targets][owner] + place, targets[owner]

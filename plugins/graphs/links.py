"""Links of a graph for link prediction: which are trained on, which are held out, and pairs without a link."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bnnapps.errors import DataError


@dataclass(frozen=True)
class Links:
    """Undirected links, once each, (2, P).

    Attributes:
        train, dev, test: the links of each part.
        dev_without, test_without: as many pairs without a link.
        messages: the training links in both directions, over which nodes tell their neighbours.
        keys: of all links, to know which pairs have one, sorted.
        nodes: how many there are.
    """

    train: Tensor
    dev: Tensor
    test: Tensor
    dev_without: Tensor
    test_without: Tensor
    messages: Tensor
    keys: Tensor
    nodes: int


def split_links(edges: Tensor, nodes: int, shares: tuple[float, float], seed: int, origin: str) -> Links:
    """Hold out shares of the links for dev and test, with as many pairs that are not linked (Kipf, Welling, 2016).

    Args:
        edges: (2, E), both directions of each link.
        nodes: how many there are.
        shares: of dev and test.
        seed: of the drawing.
        origin: for messages.

    Raises:
        DataError: a part would be empty, or the graph has too few pairs without a link.
    """
    once = edges[:, edges[0] < edges[1]]
    count = once.shape[1]
    sizes = [round(count * share) for share in shares]
    if min(sizes) < 1 or count - sum(sizes) < 1:
        raise DataError(
            f"{origin} has {count} links, of which {sizes[0]} and {sizes[1]} would be held out: change data.held_out"
        )
    if nodes * (nodes - 1) // 2 - count < sum(sizes):
        raise DataError(f"{origin} has too few pairs of nodes without a link for link prediction")
    generator = torch.Generator().manual_seed(seed)
    once = once[:, torch.randperm(count, generator=generator)]
    dev, test, train = once.split([*sizes, count - sum(sizes)], dim=1)
    keys = (once[0] * nodes + once[1]).sort().values
    dev_without, test_without = unlinked(keys, nodes, sum(sizes), generator).split(sizes, dim=1)
    messages = torch.cat([train, train.flip(0)], dim=1)
    return Links(train, dev, test, dev_without, test_without, messages, keys, nodes)


def unlinked(keys: Tensor, nodes: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` different pairs (2, count), smaller node first, that are not among the sorted `keys` a * nodes + b."""
    found = torch.empty(0, dtype=torch.long)
    while len(found) < count:
        pairs = torch.randint(nodes, (2, 2 * (count - len(found)) + 8), generator=generator)
        a, b = pairs.min(0).values, pairs.max(0).values
        fresh = (a * nodes + b)[a != b]
        fresh = fresh[~torch.isin(fresh, keys)]
        together = torch.cat([found, fresh])
        # The first time that a pair comes counts, so that the order stays random.
        values, inverse = together.unique(return_inverse=True)
        first = torch.full((len(values),), len(together)).scatter_reduce(
            0, inverse, torch.arange(len(together)), "amin", include_self=True
        )
        found = together[first.sort().values]
    found = found[:count]
    return torch.stack([found // nodes, found % nodes])

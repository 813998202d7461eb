"""Drawn neighbourhoods, links, and batches that follow from the epoch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.graphs.config import GraphModel
from bnnapps.plugins.graphs.embedded import load_karate, make_motifs, make_planted
from bnnapps.plugins.graphs.links import split_links, unlinked
from bnnapps.plugins.graphs.loader import GraphLoader, Graphs, Neighbourhoods, WholeGraph, WholeLinks
from bnnapps.plugins.graphs.networks import NodeClassifier
from bnnapps.plugins.graphs.sets import DEV, TEST, TRAIN, NodeGraph, SmallGraph

GRAPH = make_planted(3, nodes=300, words=40, edges=900)


def near(neighbors: list[int], parts: tuple[int, ...] = (TRAIN,)) -> Neighbourhoods:
    return Neighbourhoods(GRAPH, GRAPH.x, parts, neighbors, seed=5)


def test_a_neighbourhood_has_so_many_neighbours_of_each_node_and_only_true_edges() -> None:
    marked = GRAPH.x.clone()
    marked[:, 0] = torch.arange(300)  # so that rows tell nodes apart
    examples = Neighbourhoods(GRAPH, marked, [DEV], [3, 2], seed=5)
    batch = examples.collate([0, 4, 7])
    nodes = batch["x"][:, 0].long()
    dev = ((GRAPH.parts == DEV) & (GRAPH.labels >= 0)).nonzero().flatten()
    assert torch.equal(nodes[:3], dev[[0, 4, 7]])
    assert len(nodes.unique()) == len(nodes)
    assert torch.equal(batch["labels"], GRAPH.labels[nodes[:3]])
    assert batch["part"].tolist() == [DEV] * 3
    true = set(map(tuple, GRAPH.edges.T.tolist()))
    drawn = [(int(nodes[a]), int(nodes[b])) for a, b in batch["edges"].T.tolist()]
    assert set(drawn) <= true
    assert len(set(drawn)) == len(drawn)
    degree = torch.bincount(GRAPH.edges[1], minlength=300)
    into = torch.bincount(batch["edges"][1], minlength=len(nodes))
    assert into[:3].tolist() == degree[nodes[:3]].clamp(max=3).tolist()
    first_hop = set(batch["edges"][0][batch["edges"][1] < 3].tolist()) - {0, 1, 2}
    for node in first_hop:
        assert int(into[node]) == min(2, int(degree[nodes[node]]))


def test_neighbours_are_drawn_evenly() -> None:
    hub = NodeGraph(
        torch.eye(9),
        torch.stack([torch.arange(1, 9), torch.zeros(8, dtype=torch.long)]),
        torch.zeros(9, dtype=torch.long),
        torch.full((9,), TRAIN),
        ("one",),
        "star",
        "star",
    )
    examples = Neighbourhoods(hub, hub.x, [TRAIN], [2], seed=0)
    count = torch.zeros(9)
    for epoch in range(400):
        examples.epoch = epoch
        count += examples.collate([0])["x"][1:].sum(0)
    assert float(count.sum()) == 800
    assert float((count[1:] - 100).abs().max()) < 40


@pytest.mark.parametrize("name", ["sage", "gin"])
def test_all_neighbours_give_what_the_whole_graph_gives(name: str) -> None:
    torch.manual_seed(0)
    model = NodeClassifier(GraphModel(name=name, hidden=8, dropout=0.0), 40, 7).eval()
    batch = near([-1, -1]).collate(list(range(7)))
    whole = WholeGraph(GRAPH, GRAPH.x, [TRAIN]).collate([0])
    with torch.no_grad():
        found = model(batch["x"], batch["edges"])[batch["rows"]]
        expected = model(whole["x"], whole["edges"])[whole["rows"][:7]]
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(batch["labels"], whole["labels"][:7])


def test_an_isolated_node_is_alone_in_its_neighbourhood() -> None:
    x = torch.eye(4)
    edges = torch.tensor([[0, 1], [1, 0]])
    graph = NodeGraph(x, edges, torch.zeros(4, dtype=torch.long), torch.full((4,), TRAIN), ("a",), "few", "few")
    assert graph.isolated == 2
    batch = Neighbourhoods(graph, x, [TRAIN], [5, 5], seed=0).collate([3])
    assert batch["x"].tolist() == [[0, 0, 0, 1]]
    assert batch["edges"].shape == (2, 0)


def test_batches_follow_from_seed_and_epoch() -> None:
    def epoch(number: int, seed: int = 5) -> list[dict[str, Tensor]]:
        loader = GraphLoader(Neighbourhoods(GRAPH, GRAPH.x, [TRAIN], [2, 2], seed), 4, seed, shuffle=True)
        loader.set_epoch(number)
        return list(loader)

    one, again, other, seeded = epoch(0), epoch(0), epoch(1), epoch(0, 6)
    assert all(torch.equal(a[k], b[k]) for a, b in zip(one, again, strict=True) for k in a)
    for different in (other, seeded):
        assert any(
            a["x"].shape != b["x"].shape or not torch.equal(a["x"], b["x"]) for a, b in zip(one, different, strict=True)
        )


# Links


def keys(pairs: Tensor, nodes: int) -> set[int]:
    return set((pairs.min(0).values * nodes + pairs.max(0).values).tolist())


def test_held_out_links_are_none_of_the_messages() -> None:
    club = load_karate()
    links = split_links(club.edges, 34, (0.1, 0.2), 0, "club")
    assert [p.shape[1] for p in (links.train, links.dev, links.test)] == [54, 8, 16]
    all_keys = keys(club.edges, 34)
    parts = [keys(p, 34) for p in (links.train, links.dev, links.test)]
    assert set.union(*parts) == all_keys
    assert sum(map(len, parts)) == 78
    assert keys(links.messages, 34) == parts[0]
    assert links.messages.shape[1] == 108
    without = [keys(p, 34) for p in (links.dev_without, links.test_without)]
    assert [len(k) for k in without] == [8, 16]
    assert not (without[0] | without[1]) & all_keys
    assert not without[0] & without[1]


def test_pairs_without_a_link_are_all_that_are_left() -> None:
    linked = torch.tensor([0 * 4 + 1, 1 * 4 + 2])
    found = unlinked(linked, 4, 4, torch.Generator().manual_seed(0))
    assert keys(found, 4) == {2, 3, 7, 11}
    assert bool((found[0] < found[1]).all())


def test_training_links_come_with_new_pairs_each_epoch() -> None:
    club = load_karate()
    links = split_links(club.edges, 34, (0.1, 0.2), 0, "club")
    loader = GraphLoader(WholeLinks(links, club.x, 0, size=20, times=1), 1, 0, shuffle=False)
    batches = list(loader)
    assert [int(b["labels"].sum()) for b in batches] == [20, 20, 14]
    seen = torch.cat([b["pairs"][:, b["labels"] == 1] for b in batches], dim=1)
    assert keys(seen, 34) == keys(links.train, 34)
    assert all(not keys(b["pairs"][:, b["labels"] == 0], 34) & keys(club.edges, 34) for b in batches)
    loader.set_epoch(1)
    assert not torch.equal(next(iter(loader))["pairs"], batches[0]["pairs"])


@pytest.mark.parametrize(
    ("nodes", "shares", "message"),
    [(34, (0.001, 0.1), "0 and 8 would be held out"), (3, (0.4, 0.3), "too few pairs of nodes without a link")],
)
def test_links_that_cannot_be_split(nodes: int, shares: tuple[float, float], message: str) -> None:
    triangle = torch.tensor([[0, 1, 0, 1, 2, 2], [1, 2, 2, 0, 1, 0]])
    edges = load_karate().edges if nodes == 34 else triangle
    with pytest.raises(DataError, match=message):
        split_links(edges, nodes, shares, 0, "here")


# Small graphs


def test_graphs_of_a_batch_stay_apart() -> None:
    graphs = [SmallGraph(torch.ones(2, 1), torch.tensor([[0, 1], [1, 0]]), 0)]
    graphs += [SmallGraph(torch.zeros(3, 1), torch.empty(2, 0, dtype=torch.long), 1), graphs[0]]
    batch = Graphs(graphs, torch.tensor([TRAIN, DEV, TEST])).collate([2, 1, 0])
    assert batch["batch"].tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert batch["edges"].tolist() == [[0, 1, 5, 6], [1, 0, 6, 5]]
    assert batch["labels"].tolist() == [0, 1, 0]
    assert batch["part"].tolist() == [TEST, DEV, TRAIN]
    assert batch["x"].flatten().tolist() == [1, 1, 0, 0, 0, 1, 1]


def test_every_training_graph_comes_once_an_epoch() -> None:
    found = make_motifs(0, 5, 0, 20)
    loader = GraphLoader(Graphs(found.graphs, found.parts), 6, 0, shuffle=True)
    assert [len(b["labels"]) for b in loader] == [6, 6, 6, 2]
    assert sum(len(b["x"]) for b in loader) == sum(len(g.x) for g in found.graphs)

"""Graphs that need no file: Zachary's karate club, and a generated one of Cora's size."""

from __future__ import annotations

import numpy as np
import torch

from bnnapps.plugins.graphs.sets import (
    DEV,
    TEST,
    TRAIN,
    GraphSet,
    NodeGraph,
    SmallGraph,
    drawn_parts,
    folds_of,
    undirected,
)

NODES, WORDS, EDGES = 2708, 1433, 5278
"""As Cora has them."""
SHARES = (0.296, 0.157, 0.154, 0.130, 0.110, 0.080, 0.073)
"""Of the seven classes, about as in Cora."""
HOMOPHILY = 0.58
"""The share of the planted edges that stay within a class."""


def load_karate() -> NodeGraph:
    """Zachary's karate club (1977): 34 members, 78 friendships, and which of two leaders each followed.

    The two leaders train; every third other member is of the dev set, the rest of the test set. A member's feature is
    its own number, one-hot.
    """
    import networkx

    club = networkx.karate_club_graph()
    labels = torch.tensor([int(club.nodes[n]["club"] == "Officer") for n in club])
    parts = torch.tensor([DEV if n % 3 == 1 else TEST for n in club])
    parts[[0, 33]] = TRAIN
    edges = undirected(torch.tensor(list(club.edges())).T, len(club), "karate club")
    described = "Zachary's karate club (real)"
    return NodeGraph(torch.eye(len(club)), edges, labels, parts, ("Mr. Hi", "Officer"), described, "karate club")


def make_planted(seed: int, nodes: int = NODES, words: int = WORDS, edges: int = EDGES) -> NodeGraph:
    """A generated citation graph of Cora's size, with Planetoid's split: 20 a class, 500 and 1000 nodes.

    Classes have Cora's shares. A node has a weight from a Pareto distribution; an edge joins two nodes with chances in
    proportion to their weights, of one class with the chance `HOMOPHILY`, else any two. A node has about 18 of the
    words (at least 1), each drawn from its class's own distribution with a chance of 0.62, else from one that all
    classes share; both fall off as Zipf's law has it. So features say a good deal about the class, and neighbours more.

    Smaller numbers make smaller graphs, with smaller dev and test sets.
    """
    random = np.random.default_rng(seed)
    shares = np.array(SHARES) / sum(SHARES)
    labels = random.choice(len(shares), size=nodes, p=shares)
    labels[: len(shares)] = np.arange(len(shares))
    weights = random.pareto(2.5, nodes) + 0.8
    pairs = _pairs(random, labels, weights, edges)
    x = torch.zeros(nodes, words)
    common = _zipf(words)[random.permutation(words)]
    own = np.stack([_zipf(words)[random.permutation(words)] for _ in shares])
    for node in range(nodes):
        count = max(1, random.poisson(18))
        of_class = int(random.binomial(count, 0.62))
        chosen = np.concatenate(
            [random.choice(words, of_class, p=own[labels[node]]), random.choice(words, count - of_class, p=common)]
        )
        x[node, torch.from_numpy(chosen)] = 1
    whole = torch.from_numpy(labels)
    few = nodes / NODES
    sizes = max(1, round(20 * few)), round(500 * few), round(1000 * few)
    parts = drawn_parts(whole, *sizes, seed, "the planted graph")
    found = undirected(torch.from_numpy(pairs).T, nodes, "the planted graph")
    described = f"planted graph of {nodes} nodes (generated)"
    classes = tuple(f"topic {i}" for i in range(len(shares)))
    return NodeGraph(x, found, whole, parts, classes, described, "the planted graph")


def _zipf(words: int) -> np.ndarray:  # type: ignore[type-arg]
    chances: np.ndarray = 1 / (np.arange(words) + 20.0)  # type: ignore[type-arg]
    found: np.ndarray = chances / chances.sum()  # type: ignore[type-arg]
    return found


def _pairs(random: np.random.Generator, labels: np.ndarray, weights: np.ndarray, edges: int) -> np.ndarray:  # type: ignore[type-arg]
    """Different pairs of different nodes, (edges, 2)."""
    found: set[tuple[int, int]] = set()
    members = [np.flatnonzero(labels == c) for c in range(int(labels.max()) + 1)]
    chances = [weights[m] / weights[m].sum() for m in members]
    overall = weights / weights.sum()
    most = len(labels) * (len(labels) - 1) // 2
    while len(found) < min(edges, most):
        starts = random.choice(len(labels), edges, p=overall)
        ends = random.choice(len(labels), edges, p=overall)
        same = random.random(edges) < HOMOPHILY
        for c, (own, p) in enumerate(zip(members, chances, strict=True)):
            chosen = same & (labels[starts] == c)
            ends[chosen] = random.choice(own, int(chosen.sum()), p=p)
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
            if a != b and len(found) < edges:
                found.add((min(a, b), max(a, b)))
    return np.array(sorted(found), dtype=np.int64)


def make_motifs(seed: int, folds: int, fold: int, count: int = 300) -> GraphSet:
    """Generated graphs of three classes: a ring, a tree, or two dense blocks on a path, each with a few more edges.

    They have 10 to 24 nodes, whose feature is their degree, one-hot up to 9; classes are told apart by structure alone.
    """
    random = np.random.default_rng(seed)
    graphs = []
    for i in range(count):
        label, nodes = i % 3, int(random.integers(10, 25))
        if label == 0:
            pairs = [(a, (a + 1) % nodes) for a in range(nodes)]
        elif label == 1:
            pairs = [(a, int(random.integers(0, a))) for a in range(1, nodes)]
        else:
            half = nodes // 2
            blocks = [range(half), range(half, nodes)]
            pairs = [(a, b) for block in blocks for a in block for b in block if a < b and random.random() < 0.4]
            pairs += [(a, a + 1) for a in range(nodes - 1)]
        pairs += [tuple(random.integers(0, nodes, 2).tolist()) for _ in range(int(random.integers(0, 5)))]
        edges = undirected(torch.tensor(pairs).T, nodes, "generated graphs")
        degree = torch.bincount(edges[0], minlength=nodes).clamp(max=9)
        graphs.append(SmallGraph(torch.eye(10)[degree], edges, label))
    parts = folds_of(torch.tensor([g.label for g in graphs]), folds, fold, seed)
    described = f"{count} motifs, fold {fold} of {folds} (generated)"
    return GraphSet(graphs, parts, ("ring", "tree", "cliques"), described, "generated graphs")

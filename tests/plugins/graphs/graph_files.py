"""Small files in the layouts that the sources of graphs read."""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

FEATURES, CLASSES = 12, 3


def write_planetoid(root: Path, name: str = "tiny", gap: bool = False, seed: int = 0) -> dict[str, Any]:
    """Files of Planetoid: 6 labelled of 20 known nodes, 5 test nodes; returns what they hold.

    `gap`: one number between the test nodes is missing, as in CiteSeer.
    """
    random = np.random.default_rng(seed)
    known, trained, tested = 20, 6, 5
    test = known + random.permutation(tested)
    if gap:
        test = np.where(test > known + 1, test + 1, test)
    nodes = int(test.max()) + 1
    x = (random.random((nodes, FEATURES)) < 0.3).astype(np.float32)
    x[:, 0] = 1
    labels = random.integers(0, CLASSES, nodes)
    if gap:
        x[known + 2] = 0
    one_hot = np.eye(CLASSES, dtype=np.int32)[labels]
    graph: defaultdict[int, list[int]] = defaultdict(list)
    for node in range(nodes):
        for other in random.choice(nodes, 3, replace=False).tolist():
            graph[node].append(int(other))
            graph[int(other)].append(node)
    root.mkdir(parents=True, exist_ok=True)
    parts = {
        "x": scipy.sparse.csr_matrix(x[:trained]),
        "allx": scipy.sparse.csr_matrix(x[:known]),
        "tx": scipy.sparse.csr_matrix(x[test]),
        "y": one_hot[:trained],
        "ally": one_hot[:known],
        "ty": one_hot[test],
        "graph": graph,
    }
    for part, value in parts.items():
        # Protocol 2 is what the published files have.
        (root / f"ind.{name}.{part}").write_bytes(pickle.dumps(value, protocol=2))
    (root / f"ind.{name}.test.index").write_text("\n".join(map(str, test)) + "\n")
    pairs = {(a, b) for a, others in graph.items() for b in others if a != b}
    return {"x": torch.from_numpy(x), "labels": labels, "test": test, "pairs": pairs, "nodes": nodes}


def write_tu(root: Path, name: str = "TINY", graphs: int = 9, attributes: bool = False) -> None:
    """Files of a TU set: rings of 3 to 5 nodes; graph 2 has no edges."""
    root.mkdir(parents=True, exist_ok=True)
    edges, indicator, labels, tags = [], [], [], []
    at = 1
    for graph in range(graphs):
        nodes = 3 + graph % 3
        if graph != 2:
            for i in range(nodes):
                a, b = at + i, at + (i + 1) % nodes
                edges += [f"{a}, {b}", f"{b}, {a}"]
        indicator += [str(graph + 1)] * nodes
        tags += [str((graph + i) % 2) for i in range(nodes)]
        labels.append("1" if graph % 2 else "-1")
        at += nodes
    for part, lines in (("A", edges), ("graph_indicator", indicator), ("graph_labels", labels), ("node_labels", tags)):
        (root / f"{name}_{part}.txt").write_text("\n".join(lines) + "\n")
    if attributes:
        (root / f"{name}_node_attributes.txt").write_text("\n".join(f"{i}.5, -1.0" for i in range(len(tags))) + "\n")


def write_blocks(root: Path, name: str = "TINY") -> None:
    """The same kind of set in one file, six graphs; graph 2 has no edges."""
    root.mkdir(parents=True, exist_ok=True)
    lines = ["6"]
    for graph in range(6):
        lines.append(f"3 {graph % 2}")
        for i in range(3):
            others = [] if graph == 2 else [str((i + 1) % 3), str((i + 2) % 3)]
            lines.append(" ".join([str(i % 2), str(len(others)), *others]))
    (root / f"{name}.txt").write_text("\n".join(lines) + "\n")


def write_geom(root: Path, name: str = "texas", listed: bool = False, nodes: int = 10) -> None:
    """Files of Geom-GCN; `listed`: rows list the features that are 1."""
    root.mkdir(parents=True, exist_ok=True)
    rows = ["node_id\tfeature\tlabel"]
    for n in reversed(range(nodes)):
        features = [0, 1 + n % 3, *([5] if n % 2 else [])] if listed else [1, n % 2, 0, 1]
        rows.append(f"{n}\t{','.join(map(str, features))}\t{n % 2}")
    (root / "out1_node_feature_label.txt").write_text("\n".join(rows) + "\n")
    pairs = [f"{n}\t{(n + 1) % nodes}" for n in range(nodes)]
    (root / "out1_graph_edges.txt").write_text("\n".join(["node_id\tnode_id", *pairs]) + "\n")
    masks = {f"{part}_mask": (np.arange(nodes) % 3 == i).astype(int) for i, part in enumerate(("train", "val", "test"))}
    np.savez(root / f"{name}_split_0.6_0.2_0.npz", **masks)

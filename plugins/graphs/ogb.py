"""Node classification sets of the Open Graph Benchmark, through its package."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import torch

from bnnapps.errors import DataError
from bnnapps.plugins.graphs.sets import DEV, NONE, TEST, TRAIN, NodeGraph, checked_features, undirected


def load_ogb(root: Path, name: str) -> NodeGraph:
    """`ogbn-arxiv`, `ogbn-products` or another set whose nodes have one class each, with its own split.

    The package keeps the set in `root`, and downloads it there when it is missing.

    Raises:
        DataError: the package is not installed, or has no such set, or one that is not about classes of nodes.
    """
    if importlib.util.find_spec("ogb") is None:
        raise DataError(f"data.source 'ogb' ({name}) needs the package 'ogb', which is not installed: pip install ogb")
    module: Any = importlib.import_module("ogb.nodeproppred")
    try:
        whole = module.NodePropPredDataset(name=name, root=str(root))
    except (ValueError, OSError, RuntimeError) as problem:
        raise DataError(f"data.name '{name}' of OGB: {' '.join(str(problem).split())[:200]}") from None
    graph, labels = whole[0]
    x = graph.get("node_feat")
    if x is None or labels.ndim != 2 or labels.shape[1] != 1:
        raise DataError(f"data.name '{name}' of OGB has no features of nodes, or no single class for each of them")
    origin = f"{root}/{name}"
    numbers = torch.from_numpy(labels[:, 0])
    numbers = torch.where(torch.isfinite(numbers.double()), numbers, -1).long()
    parts = torch.full((len(numbers),), NONE, dtype=torch.long)
    split = whole.get_idx_split()
    for key, part in (("train", TRAIN), ("valid", DEV), ("test", TEST)):
        parts[torch.as_tensor(split[key])] = part
    return NodeGraph(
        checked_features(torch.from_numpy(x), origin),
        undirected(torch.from_numpy(graph["edge_index"]), len(x), origin),
        numbers,
        parts,
        tuple(f"class {i}" for i in range(int(whole.num_classes))),
        f"{name} of OGB, its own split (real)",
        origin,
    )

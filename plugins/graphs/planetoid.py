"""Planetoid's citation graphs (Cora, CiteSeer, PubMed) from their raw files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.graphs.sets import DEV, NONE, TEST, TRAIN, NodeGraph, checked_features, undirected
from bnnapps.plugins.graphs.unpickle import Sparse, read_planetoid_pickle

_PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
_DEV = 500


def load_planetoid(root: Path, name: str) -> NodeGraph:
    """A graph with the fixed split of Yang et al. (ICML 2016).

    The nodes of `x` train, the next 500 are the dev set, and those of `test.index` the test set.

    Args:
        root: a folder with `ind.NAME.x` and so on, or one that has such a folder in `raw`, `data` or `NAME/raw`.
        name: in any case: `cora`, `citeseer`, `pubmed`.

    Raises:
        DataError: a file is missing, damaged, or does not fit the others.
    """
    folder = _folder(root, name)
    files = {part: folder / f"ind.{name.lower()}.{part}" for part in _PARTS}
    arrays = {part: _matrix(files[part]) for part in ("x", "tx", "allx", "y", "ty", "ally")}
    for features, targets in (("x", "y"), ("tx", "ty"), ("allx", "ally")):
        if len(arrays[features]) != len(arrays[targets]):
            raise DataError(
                f"{files[targets]} has {len(arrays[targets])} rows and {files[features].name} {len(arrays[features])}: "
                "the files are not of one set"
            )
    test = _test_index(files["test.index"])
    if len(test) != len(arrays["tx"]):
        raise DataError(
            f"{files['test.index']} has {len(test)} nodes and {files['tx'].name} {len(arrays['tx'])}: the files are "
            "not of one set"
        )
    known = len(arrays["allx"])
    if len(test) and int(test.min()) < known:
        raise DataError(f"{files['test.index']} names node {int(test.min())}, which {files['allx'].name} has already")
    nodes = max(known, int(test.max()) + 1 if len(test) else 0)
    x = torch.zeros(nodes, arrays["allx"].shape[1])
    one_hot = torch.zeros(nodes, arrays["ally"].shape[1])
    for target, of, rest in ((x, "allx", "tx"), (one_hot, "ally", "ty")):
        if arrays[of].shape[1] != arrays[rest].shape[1]:
            raise DataError(f"{files[rest]} has {arrays[rest].shape[1]} columns and {files[of].name} {len(target[0])}")
        target[:known] = torch.from_numpy(arrays[of])
        # CiteSeer: nodes without papers lie between the test nodes, and have neither features nor a class.
        target[test] = torch.from_numpy(arrays[rest])
    labels = torch.where(one_hot.any(1), one_hot.argmax(1), -1)
    parts = torch.full((nodes,), NONE, dtype=torch.long)
    trained = len(arrays["x"])
    parts[:trained] = TRAIN
    parts[trained : min(trained + _DEV, known)] = DEV
    parts[test] = TEST
    parts[labels < 0] = NONE
    title = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}.get(name.lower(), name)
    classes = tuple(f"class {i}" for i in range(one_hot.shape[1]))
    described = f"{title} of Planetoid, fixed split (real)"
    edges = _edges(files["graph"], nodes)
    return NodeGraph(checked_features(x, files["allx"]), edges, labels, parts, classes, described, str(folder))


def _folder(root: Path, name: str) -> Path:
    choices = [root, root / "raw", root / "data", root / name / "raw", root / name.lower() / "raw"]
    for folder in choices:
        if (folder / f"ind.{name.lower()}.graph").is_file():
            return folder
    raise DataError(f"{root} has no file ind.{name.lower()}.graph: data.root must name the folder of Planetoid's files")


def _matrix(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = read_planetoid_pickle(path)
    try:
        if isinstance(found, Sparse):
            return found.dense()
        if isinstance(found, np.ndarray) and found.ndim == 2:
            return found.astype(np.float32)
    except (ValueError, TypeError, MemoryError) as problem:
        raise DataError(f"{path} holds {problem}") from None
    raise DataError(f"{path} holds a {type(found).__name__}; expected a matrix")


def _test_index(path: Path) -> Tensor:
    try:
        numbers = [int(line) for line in path.read_text(encoding="ascii").split()]
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}") from None
    except ValueError:
        raise DataError(f"{path} must hold one node number a line") from None
    found = torch.tensor(numbers, dtype=torch.long)
    if len(found.unique()) != len(found):
        raise DataError(f"{path} names a node twice")
    return found


def _edges(path: Path, nodes: int) -> Tensor:
    graph = read_planetoid_pickle(path)
    if not isinstance(graph, dict):
        raise DataError(f"{path} holds a {type(graph).__name__}; expected a mapping from each node to its neighbours")
    pairs: list[tuple[int, int]] = []
    for node, others in graph.items():
        if not isinstance(others, list) or not all(isinstance(n, (int, np.integer)) for n in (node, *others)):
            raise DataError(f"{path}: the neighbours of node {str(node)[:40]} are no list of numbers")
        pairs += [(int(node), int(other)) for other in others]
    return undirected(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T, nodes, path)

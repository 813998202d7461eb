"""WebKB's pages (Cornell, Texas, Wisconsin) and the actor graph, from the raw files of Geom-GCN."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.graphs.sets import DEV, NONE, TEST, TRAIN, NodeGraph, checked_features, undirected

_NODES, _EDGES = "out1_node_feature_label.txt", "out1_graph_edges.txt"


def load_geom(root: Path, name: str, split: int) -> NodeGraph:
    """A graph with the numbered 60/20/20 split of Pei et al. (ICLR 2020).

    Args:
        root: the folder with `out1_node_feature_label.txt`, or one that has it in `NAME` or `NAME/raw`.
        name: `texas`, `wisconsin`, `cornell` or `film`.
        split: the number in `NAME_split_0.6_0.2_NUMBER.npz`.

    Raises:
        DataError: a file is missing or malformed.
    """
    lower = name.lower()
    folders = [root, root / lower, root / lower / "raw", root / name, root / "raw"]
    folder = next((f for f in folders if (f / _NODES).is_file()), None)
    if folder is None:
        raise DataError(f"{root} has no file {_NODES}, nor has a folder {lower} in it: data.root must name its folder")
    x, labels = _nodes(folder / _NODES)
    edges = undirected(_pairs(folder / _EDGES), len(x), folder / _EDGES)
    parts = _parts(folder, lower, split, len(x))
    classes = tuple(f"class {i}" for i in range(int(labels.max()) + 1))
    described = f"{lower} of WebKB and Geom-GCN, split {split} (real)"
    return NodeGraph(x, edges, labels, parts, classes, described, str(folder))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()[1:]
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text in UTF-8") from None


def _nodes(path: Path) -> tuple[Tensor, Tensor]:
    """Features and labels; where rows differ in length, a row lists the features that are 1."""
    rows: dict[int, tuple[list[int], int]] = {}
    lines = _lines(path)
    for number, line in enumerate(lines, 2):
        try:
            node, values, label = line.split("\t")
            rows[int(node)] = [int(v) for v in values.split(",")], int(label)
        except ValueError:
            raise DataError(f"{path}, line {number}: expected a node, its features and its class, with tabs") from None
    if sorted(rows) != list(range(len(lines))) or not rows:
        raise DataError(f"{path}: the nodes must be numbered from 0 to {max(0, len(lines) - 1)}, each once")
    labels = torch.tensor([rows[n][1] for n in range(len(rows))])
    if int(labels.min()) < 0:
        raise DataError(f"{path}: a class has the number {int(labels.min())}")
    features = [rows[n][0] for n in range(len(rows))]
    if len({len(row) for row in features}) == 1 and max(map(max, features)) <= 1:
        return checked_features(torch.tensor(features, dtype=torch.float32), path), labels
    if min(map(min, features)) < 0:
        raise DataError(f"{path}: a feature has the number {min(map(min, features))}")
    x = torch.zeros(len(rows), max(map(max, features)) + 1)
    for n, row in enumerate(features):
        x[n, row] = 1
    return checked_features(x, path), labels


def _pairs(path: Path) -> Tensor:
    found = []
    for number, line in enumerate(_lines(path), 2):
        try:
            a, b = (int(v) for v in line.split("\t"))
        except ValueError:
            raise DataError(f"{path}, line {number}: expected two node numbers with a tab between") from None
        found.append((a, b))
    return torch.tensor(found, dtype=torch.long).reshape(-1, 2).T


def _parts(folder: Path, name: str, split: int, nodes: int) -> Tensor:
    path = folder / f"{name}_split_0.6_0.2_{split}.npz"
    parts = torch.full((nodes,), NONE, dtype=torch.long)
    try:
        with np.load(path, allow_pickle=False) as masks:
            for key, part in (("train_mask", TRAIN), ("val_mask", DEV), ("test_mask", TEST)):
                parts[torch.from_numpy(masks[key].astype(bool))] = part
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror or problem}; data.split is {split}") from None
    except (KeyError, ValueError, IndexError, BadZipFile) as problem:
        raise DataError(f"{path} holds no three masks of {nodes} nodes: {' '.join(str(problem).split())}") from None
    return parts

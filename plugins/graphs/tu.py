"""The graph sets of TU Dortmund (MUTAG, PROTEINS and so on), from their raw files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.graphs.sets import TRAIN, GraphSet, SmallGraph, checked_features, folds_of, undirected

LARGEST_DEGREE = 64
"""Where nodes have neither tags nor attributes, their degree stands for them, one-hot, up to this one."""


def load_tu(root: Path, name: str, folds: int, fold: int, seed: int) -> GraphSet:
    """A set of graphs, split into folds.

    Two layouts are known: `NAME_A.txt` with its companions, as the sets are published, and `NAME.txt`, one block a
    graph (`nodes class`, then `tag degree neighbours...` for each node), as DGCNN and GIN give them away.

    Raises:
        DataError: a file is missing or malformed, or a graph has no nodes.
    """
    for folder in (root, root / name, root / name / "raw", root / "raw"):
        if (folder / f"{name}_A.txt").is_file():
            graphs, labels, origin = _published(folder, name)
            break
        if (folder / f"{name}.txt").is_file():
            graphs, labels, origin = _blocks(folder / f"{name}.txt")
            break
    else:
        raise DataError(f"{root} has neither {name}_A.txt nor {name}.txt: data.root must name the folder of the set")
    names = sorted(set(labels))
    numbers = torch.tensor([names.index(label) for label in labels])
    if len(numbers) < folds:
        raise DataError(f"{origin} has {len(numbers)} graphs, which are too few for {folds} folds: lower data.folds")
    found = [SmallGraph(x, edges, int(n)) for (x, edges), n in zip(graphs, numbers, strict=True)]
    parts = folds_of(numbers, folds, fold, seed)
    assert bool((parts == TRAIN).any())
    described = f"{name} of the TU sets, fold {fold} of {folds} (real)"
    return GraphSet(found, parts, tuple(f"class {n}" for n in names), described, str(origin))


Graphs = list[tuple[Tensor, Tensor]]


def _numbers(path: Path, kind: type = int) -> np.ndarray:  # type: ignore[type-arg]
    try:
        lines = [line for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
        return np.array([[kind(v) for v in line.split(",")] for line in lines])
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}") from None
    except ValueError:
        raise DataError(f"{path} must hold numbers, separated by commas, as many in each line") from None


def _published(folder: Path, name: str) -> tuple[Graphs, list[int], Path]:
    origin = folder / f"{name}_A.txt"
    of_node = _numbers(folder / f"{name}_graph_indicator.txt").reshape(-1) - 1
    labels = _numbers(folder / f"{name}_graph_labels.txt").reshape(-1)
    pairs = torch.from_numpy(_numbers(origin).reshape(-1, 2).T - 1)
    nodes = len(of_node)
    count = np.bincount(of_node.clip(min=0), minlength=len(labels))
    if nodes == 0 or of_node.min() < 0 or len(count) > len(labels):
        raise DataError(f"{folder / f'{name}_graph_indicator.txt'} does not number the {len(labels)} graphs from 1 on")
    if (np.diff(of_node) < 0).any():
        raise DataError(f"{folder / f'{name}_graph_indicator.txt'}: the nodes of a graph must stand together")
    if (count == 0).any():
        raise DataError(f"{folder / f'{name}_graph_indicator.txt'}: graph {int(count.argmin()) + 1} has no nodes")
    edges = undirected(pairs, nodes, origin)
    belongs = torch.from_numpy(of_node)
    crossing = belongs[edges[0]] != belongs[edges[1]]
    if bool(crossing.any()):
        a, b = (edges[:, crossing][:, 0] + 1).tolist()
        raise DataError(f"{origin}: the edge from {a} to {b} joins two graphs")
    columns = []
    if (folder / f"{name}_node_labels.txt").is_file():
        tags = _numbers(folder / f"{name}_node_labels.txt")
        columns += [_one_hot(tags[:, i]) for i in range(tags.shape[1])]
    if (folder / f"{name}_node_attributes.txt").is_file():
        columns.append(torch.from_numpy(_numbers(folder / f"{name}_node_attributes.txt", float)).float())
    if not columns:
        columns.append(_degrees(edges, nodes))
    if any(len(c) != nodes for c in columns):
        raise DataError(f"{folder}: the files of node labels and attributes must have {nodes} lines, one a node")
    x = checked_features(torch.cat(columns, dim=1), folder)
    starts = torch.from_numpy(np.concatenate([[0], np.cumsum(count)]))
    order = belongs[edges[0]].argsort(stable=True)
    groups = edges[:, order].split(torch.bincount(belongs[edges[0]], minlength=len(labels)).tolist(), dim=1)
    graphs = [(x[starts[i] : starts[i + 1]], groups[i] - starts[i]) for i in range(len(labels))]
    return graphs, [int(v) for v in labels], origin


def _one_hot(tags: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    values, numbers = np.unique(tags, return_inverse=True)
    return torch.eye(len(values))[torch.from_numpy(numbers.reshape(-1))]


def _degrees(edges: Tensor, nodes: int) -> Tensor:
    degree = torch.bincount(edges[0], minlength=nodes).clamp(max=LARGEST_DEGREE)
    return torch.eye(int(degree.max()) + 1)[degree]


def _blocks(path: Path) -> tuple[Graphs, list[int], Path]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text of numbers") from None
    at = 0

    def line() -> list[int]:
        nonlocal at
        at += 1
        try:
            # Attributes may follow the neighbours; they are not read.
            return [int(v) if "." not in v else 0 for v in lines[at - 1].split()]
        except (IndexError, ValueError):
            raise DataError(f"{path}, line {at}: expected whole numbers; the file ends early or is damaged") from None

    tags: list[list[int]] = []
    edges: list[Tensor] = []
    labels: list[int] = []
    for number in range(_first(line(), path)):
        head = line()
        if len(head) != 2 or head[0] < 1:
            raise DataError(f"{path}, line {at}: graph {number} must begin with its number of nodes and its class")
        own, pairs = [], []
        for node in range(head[0]):
            row = line()
            if len(row) < 2 or len(row) < 2 + row[1]:
                raise DataError(f"{path}, line {at}: expected a tag, a degree and as many neighbours")
            own.append(row[0])
            pairs += [(node, other) for other in row[2 : 2 + row[1]]]
        found = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
        tags.append(own)
        edges.append(undirected(found, head[0], f"{path}, graph {number}"))
        labels.append(head[1])
    if len({tag for own in tags for tag in own}) > 1:
        values = sorted({tag for own in tags for tag in own})
        place = {tag: i for i, tag in enumerate(values)}
        features = [torch.eye(len(values))[[place[tag] for tag in own]] for own in tags]
    else:
        nodes = [len(own) for own in tags]
        offsets = np.cumsum([0, *nodes[:-1]]).tolist()
        whole = torch.cat([e + o for e, o in zip(edges, offsets, strict=True)], dim=1)
        features = list(_degrees(whole, sum(nodes)).split(nodes))
    return list(zip(features, edges, strict=True)), labels, path


def _first(row: list[int], path: Path) -> int:
    if len(row) != 1 or row[0] < 1:
        raise DataError(f"{path}, line 1: expected the number of graphs")
    return row[0]


def majority(labels: list[int]) -> float:
    """The share of the largest class: what guessing reaches."""
    return max(Counter(labels).values()) / len(labels)

"""The other sources of graphs: TU sets, Geom-GCN's files, OGB, and the embedded ones."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_files import write_blocks, write_geom, write_tu

from bnnapps.errors import DataError
from bnnapps.plugins.graphs.embedded import load_karate, make_motifs, make_planted
from bnnapps.plugins.graphs.geom import load_geom
from bnnapps.plugins.graphs.ogb import load_ogb
from bnnapps.plugins.graphs.sets import (
    DEV,
    TEST,
    TRAIN,
    checked_features,
    drawn_parts,
    folds_of,
    undirected,
    unit_rows,
)
from bnnapps.plugins.graphs.tu import load_tu


def pairs(edges: torch.Tensor) -> set[tuple[int, int]]:
    return set(map(tuple, edges.T.tolist()))


# Edges, features, splits


def test_edges_go_both_ways_once_and_never_to_themselves() -> None:
    found = undirected(torch.tensor([[0, 1, 2, 2, 0], [1, 0, 2, 3, 1]]), 5, "here")
    assert pairs(found) == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert found.shape == (2, 4)
    assert undirected(torch.empty(2, 0), 3, "here").shape == (2, 0)


@pytest.mark.parametrize(("pair", "shown"), [((0, 3), "from 0 to 3"), ((-1, 2), "from -1 to 2")])
def test_an_edge_to_a_missing_node_is_refused(pair: tuple[int, int], shown: str) -> None:
    with pytest.raises(DataError, match=rf"here: the edge {shown} names a node that does not exist: there are 3 nodes"):
        undirected(torch.tensor([[0, pair[0]], [1, pair[1]]]), 3, "here")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.tensor([[1.0, float("nan")]]), "feature 1 of node 0 is nan: correct it"),
        (torch.tensor([[1.0], [float("inf")]]), "feature 0 of node 1 is inf"),
        (torch.empty(0, 3), "shape (0, 3)"),
        (torch.empty(3, 0), "shape (3, 0)"),
    ],
)
def test_features_that_are_not_finite_or_missing_are_refused(x: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError) as caught:
        checked_features(x, "file")
    assert message in str(caught.value)


def test_unit_rows_leave_rows_of_zeros() -> None:
    assert unit_rows(torch.tensor([[1.0, 1.0], [0.0, 0.0], [4.0, 0.0]])).tolist() == [[0.5, 0.5], [0, 0], [1, 0]]


def test_folds_are_stratified_and_cover_everything() -> None:
    labels = torch.tensor([0] * 31 + [1] * 19)
    tested = []
    for fold in range(5):
        parts = folds_of(labels, 5, fold, seed=3)
        assert {int((parts == p).sum()) for p in (DEV, TEST)} == {10}
        assert int((parts == TRAIN).sum()) == 30
        assert 5 <= int(((parts == TEST) & (labels == 0)).sum()) <= 7
        assert torch.equal(parts == DEV, folds_of(labels, 5, (fold + 1) % 5, seed=3) == TEST)
        tested += (parts == TEST).nonzero().flatten().tolist()
    assert sorted(tested) == list(range(50))
    assert not torch.equal(folds_of(labels, 5, 0, seed=4), folds_of(labels, 5, 0, seed=3))


def test_a_drawn_split_has_as_many_of_each_class() -> None:
    labels = torch.tensor([0, 1, 2] * 20 + [-1] * 5)
    parts = drawn_parts(labels, 4, 10, 15, 0, "here")
    assert [int((labels[parts == TRAIN] == c).sum()) for c in range(3)] == [4, 4, 4]
    assert (int((parts == DEV).sum()), int((parts == TEST).sum())) == (10, 15)
    assert not bool(parts[labels < 0].any())
    with pytest.raises(DataError, match="class 0 has 20 nodes, and 21 a class are to train"):
        drawn_parts(labels, 21, 1, 1, 0, "here")
    with pytest.raises(DataError, match="48 nodes are left for 40 dev and 10 test nodes"):
        drawn_parts(labels, 4, 40, 10, 0, "here")


# Embedded


def test_the_karate_club() -> None:
    club = load_karate()
    assert (len(club), club.edges.shape[1], club.isolated) == (34, 156, 0)
    assert (club.parts == TRAIN).nonzero().flatten().tolist() == [0, 33]
    assert int(club.labels.sum()) == 17
    assert club.classes == ("Mr. Hi", "Officer")


def test_the_planted_graph_has_the_size_of_cora_and_follows_its_seed() -> None:
    graph = make_planted(0)
    assert graph.x.shape == (2708, 1433)
    assert graph.edges.shape[1] == 2 * 5278
    assert [int((graph.parts == p).sum()) for p in (TRAIN, DEV, TEST)] == [140, 500, 1000]
    assert 15 < float(graph.x.sum(1).mean()) < 20
    same = graph.labels[graph.edges[0]] == graph.labels[graph.edges[1]]
    assert 0.6 < float(same.float().mean()) < 0.7
    small, again, other = (make_planted(s, nodes=200, words=60, edges=300) for s in (1, 1, 2))
    assert torch.equal(small.x, again.x)
    assert torch.equal(small.edges, again.edges)
    assert not torch.equal(small.labels, other.labels)


def test_motifs_have_the_structure_of_their_class() -> None:
    found = make_motifs(0, 10, 0, 30)
    assert len(found) == 30
    assert found.features == 10
    assert [len(found.of(p)) for p in (TRAIN, DEV, TEST)] == [24, 3, 3]
    for graph in found.graphs[:6]:
        degree = torch.bincount(graph.edges[0], minlength=len(graph.x)).clamp(max=9)
        assert torch.equal(graph.x.argmax(1), degree)


# TU sets


@pytest.mark.parametrize("attributes", [False, True])
def test_a_tu_set_as_published(attributes: bool, tmp_path: Path) -> None:
    write_tu(tmp_path / "TINY" / "raw", attributes=attributes)
    found = load_tu(tmp_path, "TINY", 3, 0, 0)
    assert len(found) == 9
    assert found.features == (4 if attributes else 2)
    assert found.classes == ("class -1", "class 1")
    assert [g.label for g in found.graphs] == [0, 1] * 4 + [0]
    first, empty, last = found.graphs[0], found.graphs[2], found.graphs[8]
    assert pairs(first.edges) == {(0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2)}
    assert (len(empty.x), empty.edges.shape) == (5, (2, 0))
    assert len(pairs(last.edges)) == 10
    assert first.x[:, :2].tolist() == [[1, 0], [0, 1], [1, 0]]
    if attributes:
        assert first.x[1, 2:].tolist() == [1.5, -1]


def test_a_tu_set_in_one_file(tmp_path: Path) -> None:
    write_blocks(tmp_path)
    found = load_tu(tmp_path, "TINY", 3, 1, 0)
    assert [g.label for g in found.graphs] == [0, 1] * 3
    assert len(pairs(found.graphs[0].edges)) == 6
    assert found.graphs[2].edges.shape == (2, 0)
    assert found.graphs[0].x.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_degrees_stand_in_where_nodes_have_no_tags(tmp_path: Path) -> None:
    write_tu(tmp_path)
    (tmp_path / "TINY_node_labels.txt").unlink()
    found = load_tu(tmp_path, "TINY", 3, 0, 0)
    assert found.graphs[0].x.tolist() == [[0, 0, 1]] * 3
    assert found.graphs[2].x.tolist() == [[1, 0, 0]] * 5
    write_blocks(tmp_path / "one")
    text = (tmp_path / "one" / "TINY.txt").read_text()
    (tmp_path / "one" / "TINY.txt").write_text(text.replace("\n1 2", "\n0 2").replace("\n1 0\n", "\n0 0\n"))
    assert load_tu(tmp_path / "one", "TINY", 3, 0, 0).graphs[2].x.argmax(1).tolist() == [0, 0, 0]


def change(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("A", "1, 2", "1, 99", "the edge from 0 to 98 names a node that does not exist"),
        ("A", "1, 2", "1, 5", "TINY_A.txt: the edge from 1 to 5 joins two graphs"),
        ("A", "1, 2", "1; 2", "TINY_A.txt must hold numbers"),
        ("graph_indicator", "1\n", "2\n", "must stand together"),
        ("graph_labels", "-1\n", "", "does not number the 8 graphs"),
        ("node_labels", "0\n", "", "must have 36 lines, one a node"),
    ],
)
def test_tu_files_that_do_not_fit_are_named(file: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    write_tu(tmp_path)
    change(tmp_path / f"TINY_{file}.txt", old, new)
    with pytest.raises(DataError) as caught:
        load_tu(tmp_path, "TINY", 3, 0, 0)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_graph_without_nodes_is_refused(tmp_path: Path) -> None:
    write_tu(tmp_path)
    with (tmp_path / "TINY_graph_labels.txt").open("a") as file:
        file.write("1\n")
    with pytest.raises(DataError, match="graph 10 has no nodes"):
        load_tu(tmp_path, "TINY", 3, 0, 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("6\n", "7\n", "the file ends early"),
        ("6\n", "six\n", "line 1: expected whole numbers"),
        ("3 0\n", "0 0\n", "line 2: graph 0 must begin with its number of nodes"),
        ("0 2 1 2", "0 2 1 9", "graph 0: the edge from 0 to 9 names a node that does not exist"),
        ("0 2 1 2", "0 3 1 2", "line 3: expected a tag, a degree and as many neighbours"),
    ],
)
def test_blocks_that_do_not_fit_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    write_blocks(tmp_path)
    change(tmp_path / "TINY.txt", old, new)
    with pytest.raises(DataError) as caught:
        load_tu(tmp_path, "TINY", 3, 0, 0)
    assert message in str(caught.value)
    assert "TINY.txt" in str(caught.value)


def test_too_few_graphs_or_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has neither TINY_A\.txt nor TINY\.txt"):
        load_tu(tmp_path, "TINY", 10, 0, 0)
    write_blocks(tmp_path)
    with pytest.raises(DataError, match="has 6 graphs, which are too few for 10 folds"):
        load_tu(tmp_path, "TINY", 10, 0, 0)


# Geom-GCN


def test_geom_files(tmp_path: Path) -> None:
    write_geom(tmp_path / "texas")
    graph = load_geom(tmp_path, "Texas", 0)
    assert graph.x[:2].tolist() == [[1, 0, 0, 1], [1, 1, 0, 1]]
    assert graph.labels.tolist() == [0, 1] * 5
    assert graph.edges.shape == (2, 20)
    assert graph.parts.tolist() == [TRAIN, DEV, TEST] * 3 + [TRAIN]


def test_geom_files_that_list_features(tmp_path: Path) -> None:
    write_geom(tmp_path, "film", listed=True)
    graph = load_geom(tmp_path, "film", 0)
    assert graph.x.shape == (10, 6)
    assert graph.x[1].tolist() == [1, 0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("out1_graph_edges.txt", "0\t1", "0\t77", "the edge from 0 to 77 names a node that does not exist"),
        ("out1_graph_edges.txt", "0\t1", "0 1", "line 2: expected two node numbers"),
        ("out1_node_feature_label.txt", "9\t1", "8\t1", "must be numbered from 0 to 9"),
        ("out1_node_feature_label.txt", "\t1\n", "\tone\n", "expected a node, its features and its class"),
        ("out1_node_feature_label.txt", "\t1\n", "\t-1\n", "a class has the number -1"),
    ],
)
def test_geom_files_that_do_not_fit_are_named(file: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    write_geom(tmp_path)
    change(tmp_path / file, old, new)
    with pytest.raises(DataError) as caught:
        load_geom(tmp_path, "texas", 0)
    assert message in str(caught.value)
    assert file in str(caught.value)


def test_splits_of_geom(tmp_path: Path) -> None:
    write_geom(tmp_path)
    with pytest.raises(DataError, match=r"texas_split_0\.6_0\.2_4\.npz: .*data\.split is 4"):
        load_geom(tmp_path, "texas", 4)
    np.savez(tmp_path / "texas_split_0.6_0.2_1.npz", train_mask=np.ones(3))
    with pytest.raises(DataError, match="holds no three masks of 10 nodes"):
        load_geom(tmp_path, "texas", 1)
    evil = np.array([print], dtype=object)
    np.savez(tmp_path / "texas_split_0.6_0.2_2.npz", train_mask=evil, val_mask=evil, test_mask=evil)
    with pytest.raises(DataError, match="holds no three masks"):
        load_geom(tmp_path, "texas", 2)


# OGB


class FakeSet:
    """What `NodePropPredDataset` of the package `ogb` gives."""

    num_classes = 3

    def __init__(self, name: str, root: str) -> None:
        if name != "ogbn-tiny":
            raise ValueError(f"Invalid dataset name {name}.")

    def __getitem__(self, index: int) -> Any:
        graph = {"edge_index": np.array([[0, 1], [1, 2]]), "node_feat": np.eye(4, dtype=np.float32), "num_nodes": 4}
        return graph, np.array([[0.0], [1.0], [2.0], [float("nan")]])

    def get_idx_split(self) -> dict[str, Any]:
        return {"train": np.array([0]), "valid": np.array([1]), "test": np.array([2, 3])}


def test_ogb_through_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package, module = types.ModuleType("ogb"), types.ModuleType("ogb.nodeproppred")
    package.__spec__ = importlib.machinery.ModuleSpec("ogb", None)
    package.__path__ = []
    module.NodePropPredDataset = FakeSet  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ogb", package)
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", module)
    graph = load_ogb(tmp_path, "ogbn-tiny")
    assert graph.labels.tolist() == [0, 1, 2, -1]
    assert graph.parts.tolist() == [TRAIN, DEV, TEST, TEST]
    assert pairs(graph.edges) == {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert graph.isolated == 1
    with pytest.raises(DataError, match=r"data\.name 'ogbn-no' of OGB: Invalid dataset name"):
        load_ogb(tmp_path, "ogbn-no")


def test_ogb_without_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ogb", None)
    with pytest.raises(DataError, match="needs the package 'ogb', which is not installed: pip install ogb"):
        load_ogb(tmp_path, "ogbn-arxiv")

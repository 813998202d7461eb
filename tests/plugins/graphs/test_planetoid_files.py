"""Planetoid's raw files, which are pickles: read exactly, and never run."""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from graph_files import write_planetoid

from bnnapps.errors import DataError
from bnnapps.plugins.graphs.planetoid import load_planetoid
from bnnapps.plugins.graphs.sets import DEV, NONE, TEST, TRAIN
from bnnapps.plugins.graphs.unpickle import Sparse, read_planetoid_pickle


def test_features_labels_edges_and_split(tmp_path: Path) -> None:
    made = write_planetoid(tmp_path)
    graph = load_planetoid(tmp_path, "Tiny")
    assert torch.equal(graph.x, made["x"])
    assert graph.labels.tolist() == made["labels"].tolist()
    assert set(map(tuple, graph.edges.T.tolist())) == made["pairs"] | {(b, a) for a, b in made["pairs"]}
    assert graph.edges.shape[1] == len(set(map(tuple, graph.edges.T.tolist())))
    assert (graph.parts == TRAIN).nonzero().flatten().tolist() == list(range(6))
    assert (graph.parts == TEST).nonzero().flatten().tolist() == sorted(made["test"].tolist())
    assert (graph.parts == DEV).nonzero().flatten().tolist() == list(range(6, 20))
    assert graph.description == "Tiny of Planetoid, fixed split (real)"


def test_nodes_between_the_test_nodes_have_no_class(tmp_path: Path) -> None:
    made = write_planetoid(tmp_path, gap=True)
    graph = load_planetoid(tmp_path, "tiny")
    assert len(graph) == made["nodes"] == 26
    assert (int(graph.labels[22]), int(graph.parts[22])) == (-1, NONE)
    assert not bool(graph.x[22].any())
    assert torch.equal(graph.x, made["x"])


def test_the_folder_may_be_one_above(tmp_path: Path) -> None:
    write_planetoid(tmp_path / "raw")
    assert len(load_planetoid(tmp_path, "tiny")) == 25


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_protocol_is_read(protocol: int, tmp_path: Path) -> None:
    matrix = scipy.sparse.csr_matrix(np.array([[0, 2.5], [1, 0], [0, 0]], dtype=np.float32))
    graph = defaultdict(list, {0: [1, 2], 1: [0]})
    for name, value in (("m", matrix), ("a", np.eye(3, dtype=np.int32)), ("g", graph)):
        (tmp_path / name).write_bytes(pickle.dumps(value, protocol=protocol))
    sparse = read_planetoid_pickle(tmp_path / "m")
    assert isinstance(sparse, Sparse)
    assert np.array_equal(sparse.dense(), matrix.toarray())
    assert np.array_equal(read_planetoid_pickle(tmp_path / "a"), np.eye(3))
    assert read_planetoid_pickle(tmp_path / "g") == graph


class Evil:
    """Writes a file when it is unpickled by anything that runs code."""

    def __init__(self, *how: Any) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return self.how


def attacks(mark: Path) -> dict[str, Any]:
    import builtins
    import os
    import subprocess

    return {
        "system": Evil(os.system, (f"touch {mark}",)),
        "eval": Evil(builtins.eval, (f"open({str(mark)!r}, 'w')",)),
        "popen": Evil(subprocess.Popen, (["touch", str(mark)],)),
        "getattr": Evil(getattr, ("text", "upper")),
        "factory": Evil(defaultdict, (dict,)),
    }


@pytest.mark.parametrize("attack", ["system", "eval", "popen", "getattr", "factory"])
@pytest.mark.parametrize("part", ["x", "graph", "ty"])
def test_a_pickle_that_names_code_is_refused_and_not_run(attack: str, part: str, tmp_path: Path) -> None:
    write_planetoid(tmp_path)
    mark, path = tmp_path / "ran", tmp_path / f"ind.tiny.{part}"
    path.write_bytes(pickle.dumps(attacks(mark)[attack], protocol=2))
    with pytest.raises(DataError) as caught:
        load_planetoid(tmp_path, "tiny")
    message = str(caught.value)
    assert str(path) in message
    assert "is refused (loading it could run code)" in message
    assert "\n" not in message
    assert not mark.exists()


def test_code_inside_an_array_or_a_matrix_is_refused_too(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    evil = attacks(mark)["system"]
    matrix = scipy.sparse.csr_matrix(np.eye(2))
    matrix.extra = evil
    array = np.array([evil, None], dtype=object)
    for name, value in (("m", matrix), ("a", array), ("l", [evil]), ("d", defaultdict(list, {0: evil}))):
        (tmp_path / name).write_bytes(pickle.dumps(value, protocol=2))
        with pytest.raises(DataError, match=r"it names posix\.system"):
            read_planetoid_pickle(tmp_path / name)
    assert not mark.exists()


def test_global_opcodes_by_hand_are_refused(tmp_path: Path) -> None:
    # copy_reg._reconstructor of another class, and a class of this package.
    for i, code in enumerate((b"ccopy_reg\n_reconstructor\n(clist\n", b"cbnnapps.errors\nDataError\n.")):
        path = tmp_path / str(i)
        path.write_bytes(code)
        with pytest.raises(DataError, match=r"is (refused|damaged)"):
            read_planetoid_pickle(path)
    path = tmp_path / "list"
    path.write_bytes(b"ccopy_reg\n_reconstructor\n(c__builtin__\nlist\nc__builtin__\nlist\n(ltR.")
    with pytest.raises(DataError, match="of something else than a sparse matrix"):
        read_planetoid_pickle(path)


def broken(part: str, value: Any) -> Any:
    return part, pickle.dumps(value, protocol=2)


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("x", b"", "is damaged"),
        ("allx", b"\x80\x02garbage", "is damaged"),
        (*broken("x", "text"), "holds a str; expected a matrix"),
        (*broken("graph", [1, 2]), "holds a list; expected a mapping"),
        (*broken("graph", {0: [99]}), "the edge from 0 to 99 names a node that does not exist: there are 25 nodes"),
        (*broken("graph", {0: [-1]}), "the edge from 0 to -1 names a node that does not exist"),
        (*broken("graph", {0: "ab"}), "the neighbours of node 0 are no list of numbers"),
        (*broken("y", np.eye(5, 3)), "has 5 rows and ind.tiny.x 6"),
        (*broken("ty", np.eye(5, 7)), "has 7 columns and ind.tiny.ally 3"),
        (*broken("ally", np.array([1, 2])), "expected a matrix"),
        ("test.index", b"20\n20\n21\n22\n23\n", "names a node twice"),
        ("test.index", b"20\nx\n", "must hold one node number a line"),
        ("test.index", b"3\n21\n22\n23\n24\n", "names node 3, which ind.tiny.allx has already"),
        ("test.index", b"20\n21\n", "has 2 nodes and ind.tiny.tx 5"),
    ],
)
def test_files_that_do_not_fit_are_named(part: str, content: bytes, message: str, tmp_path: Path) -> None:
    write_planetoid(tmp_path)
    path = tmp_path / f"ind.tiny.{part}"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_planetoid(tmp_path, "tiny")
    assert message in str(caught.value)
    assert "ind.tiny." in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sparse_matrix_of_impossible_parts(tmp_path: Path) -> None:
    write_planetoid(tmp_path)
    path = tmp_path / "ind.tiny.x"
    for change, message in (
        ({"indices": np.array([99])}, "parts do not fit"),
        ({"_shape": (10**9, 10**9)}, "parts do not fit"),
        ({"_shape": None}, "of the shape None"),
    ):
        matrix = scipy.sparse.csr_matrix(np.eye(6, 12, dtype=np.float32))
        matrix.__dict__.update(change)
        path.write_bytes(pickle.dumps(matrix, protocol=2))
        with pytest.raises(DataError, match=message):
            load_planetoid(tmp_path, "tiny")
    matrix = scipy.sparse.csr_matrix(np.eye(6, 12, dtype=np.float32))
    matrix.__dict__["indices"] = matrix.indices + 7
    path.write_bytes(pickle.dumps(matrix, protocol=2))
    with pytest.raises(DataError, match="an entry beyond its 12 columns"):
        load_planetoid(tmp_path, "tiny")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no file ind\.cora\.graph: data\.root must name"):
        load_planetoid(tmp_path, "cora")
    write_planetoid(tmp_path)
    (tmp_path / "ind.tiny.ty").unlink()
    with pytest.raises(DataError, match=r"ind\.tiny\.ty: No such file"):
        load_planetoid(tmp_path, "tiny")

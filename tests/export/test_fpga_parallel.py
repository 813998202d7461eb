"""Parallel designs and truth tables: against the folded form's golden model, torch, and simulators."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fpga_cases import codes, convolutional, perceptron
from rich.console import Console

import bnnapps
from bnnapps.cli import main
from bnnapps.errors import DataError, ExportError, UsageError
from bnnapps.export.fpga.flow import NAMES, Options, build
from bnnapps.export.fpga.golden import classes, sums
from bnnapps.export.fpga.luts.file import read_file, to_json
from bnnapps.export.fpga.luts.read import read_tables
from bnnapps.export.fpga.parallel.flow import owner_of
from bnnapps.export.fpga.parallel.generate import at_least, generate_parallel, table_text
from bnnapps.export.fpga.parallel.logic import FALSE, TRUE, Logic
from bnnapps.export.fpga.parallel.network import Comparators, Parallel, Tables, counted, of_network
from bnnapps.export.fpga.parallel.source import best, parallel_vectors
from bnnapps.export.fpga.simulate.run import available, simulate
from bnnapps.models import build as build_model
from bnnapps.nn import fit_thermometers
from bnnapps.plugins.classification.augment import Normalize

icarus = pytest.mark.skipif("icarus" not in available(), reason="Icarus Verilog is not installed")
NORMALIZE = Normalize([0.3], [0.4])


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def tables() -> tuple[torch.nn.Module, Parallel]:
    """A network of tables with thresholds at quantiles, and its parallel form."""
    torch.manual_seed(0)
    model = build_model("dwn", 3, 1, hidden=[24, 15], inputs=4, bits=2, image_size=6, temperature=2.0)
    fit_thermometers(model, NORMALIZE(pixels(200)))
    bnnapps.binarize(model, "dwn")
    return model.eval(), read_tables(model, "tiny", NORMALIZE, (1, 6, 6))


def right(network: Parallel, x: Any, folder: Path, scores: bool = True, levels: int = 2) -> None:
    """Icarus finds every result right, one a cycle, after the cycles that were predicted."""
    parts = generate_parallel(network, scores, levels)
    d = parts.design
    vectors = parallel_vectors(network, np.asarray(x, np.int64), d.class_bits, d.score_bits, scores)
    found = simulate("icarus", d, vectors, folder, cycles=1)
    assert [run.wrong for run in found] == [0, 0]
    assert found[0].interval == 1
    assert found[0].latency == parts.latency


@pytest.mark.parametrize("ranked", [False, True])
def test_dense_layers_count_what_the_folded_form_sums(ranked: bool) -> None:
    network = perceptron(3, ranked, (40, 24, 16, 7))
    parallel, x = of_network(network), codes(network, 50)
    z = sums(network, x)
    counts = counted(parallel, x > 0)
    assert (2 * counts - network.head.terms == z).all()
    assert (best(parallel, counts) == classes(network.head, z)).all()


@icarus
@pytest.mark.parametrize(("ranked", "scores", "levels"), [(False, True, 2), (True, True, 1), (False, False, 3)])
def test_dense_networks_in_hardware(ranked: bool, scores: bool, levels: int, tmp_path: Path) -> None:
    network = perceptron(5, ranked, (20, 12, 9, 5))
    right(of_network(network), codes(network, 60) > 0, tmp_path, scores, levels)


@icarus
def test_tables_in_hardware(tables: tuple[torch.nn.Module, Parallel], tmp_path: Path) -> None:
    right(tables[1], pixels(80, 3).reshape(80, -1).numpy(), tmp_path)


def test_tables_agree_with_torch(tables: tuple[torch.nn.Module, Parallel]) -> None:
    model, network = tables
    x = pixels(300, 2)
    with torch.no_grad():
        expected = model(NORMALIZE(x)) * 2
    found = counted(network, x.reshape(300, -1).numpy())
    assert (found == expected.numpy()).all()
    assert len({tuple(row) for row in found.tolist()}) > 10
    comparators, *layers = network.stages
    assert isinstance(comparators, Comparators)
    pairs = set(zip(comparators.feature.tolist(), comparators.level.tolist(), strict=True))
    assert len(pairs) == comparators.outputs  # each once
    for before, layer in zip(network.stages, layers, strict=False):
        assert isinstance(layer, Tables)
        assert set(layer.wires.flatten().tolist()) == set(range(before.outputs))  # nothing that is not read


def test_a_file_of_tables_is_read_back(tables: tuple[torch.nn.Module, Parallel], tmp_path: Path) -> None:
    network = tables[1]
    path = tmp_path / "net.json"
    path.write_text(json.dumps(to_json(network)))
    x = pixels(40, 4).reshape(40, -1).numpy()
    assert (counted(read_file(path), x) == counted(network, x)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "no file of truth tables of format 1"),
        ({"groups": None}, "no network of truth tables"),
        ({"groups": [[0], [99]]}, "a group counts bit 99, and there are 15"),
        ({"comparators": [[0, 300]]}, "levels must lie between 0 and 256"),
        ({"features": 0}, "features is 0"),
        ({"layers": [{"name": "1", "wires": [[0, 1]], "tables": ["ff"]}]}, "a table has more than 4 entries"),
        ({"layers": [{"name": "1", "wires": [[0, 1]], "tables": []}]}, "needs a table and 1 to 8 wires"),
    ],
)
def test_bad_files(tables: Any, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text(json.dumps(to_json(tables[1]) | change))
    with pytest.raises(DataError, match=message):
        read_file(path)
    path.write_text("{")
    with pytest.raises(DataError, match="is no JSON"):
        read_file(path)


def test_comparisons_with_constants() -> None:
    for level in range(18):
        text = at_least([f"b[{i}]" for i in range(4)], level).replace("1'b1", "1").replace("1'b0", "0")
        assert [eval(text, {"b": [v >> i & 1 for i in range(4)]}) for v in range(16)] == [v >= level for v in range(16)]


def test_tables_as_expressions() -> None:
    for value in [*range(256), *np.random.default_rng(0).integers(0, 1 << 16, 40).tolist()]:
        n = 3 if value < 256 else 4
        table = tuple(bool(value >> a & 1) for a in range(1 << n))
        text = table_text(table, [f"b[{j}]" for j in range(n)])
        assert "1'b" not in text or value in (0, 255)
        for a in range(1 << n):
            bits = [a >> j & 1 for j in range(n)]
            assert verilog(text, bits) == table[a]


def verilog(text: str, bits: list[int]) -> bool:
    """The value of an expression of single bits."""
    text = text.replace("1'b", "")
    while (inner := re.search(r"\(([^()]*)\)", text)) is not None:
        text = text[: inner.start()] + str(int(verilog(inner[1], bits))) + text[inner.end() :]
    choice = re.fullmatch(r"(.*) \? (.*) : (.*)", text)
    if choice is not None:
        return verilog(choice[2] if verilog(choice[1], bits) else choice[3], bits)
    return bool(eval(text.replace("~", "1 - "), {"b": bits}) & 1)


def test_adders_share_what_inverters_tell_apart() -> None:
    logic = Logic(3)
    a, b, c = (logic.input(i) for i in range(3))
    first, second = logic.xor(a, b, c), logic.xor(a, b ^ 1, c)
    assert second == first ^ 1
    assert logic.majority(a ^ 1, b ^ 1, c ^ 1) == logic.majority(a, b, c) ^ 1
    assert logic.gates == 2
    assert logic.majority(a, b, FALSE) != logic.majority(a, b, TRUE)
    assert logic.majority(a, FALSE, TRUE) == a
    assert logic.xor(a, TRUE) == a ^ 1
    assert logic.register(a ^ 1) == logic.register(a) ^ 1
    assert logic.registers == 1


def test_neurons_cost_less_together() -> None:
    alone = generate_parallel(of_network(perceptron(1, sizes=(48, 2, 2)))).parts[0].gates / 2
    many = generate_parallel(of_network(perceptron(1, sizes=(48, 64, 2)))).parts[0].gates / 64
    assert many < 0.75 * alone


def test_what_has_no_parallel_form_is_named(tmp_path: Path, tables: Any) -> None:
    with pytest.raises(ExportError, match="layer 'conv' is no dense layer, and --style parallel takes chains"):
        of_network(convolutional(0))
    path = tmp_path / "net.json"
    path.write_text(json.dumps(to_json(tables[1])))
    for options, message in (
        ({"style": "folded"}, "which has no folded form: drop --style"),
        ({"style": "paralel"}, "no style 'paralel'; the nearest are 'parallel'"),
        ({"fps": 1e6}, "--fps, --folding and --brams are for the folded style"),
        ({"levels": 0}, "--levels is 0"),
    ):
        with pytest.raises(UsageError, match=message):
            build(path, tmp_path / "out", Options(**options), Console(quiet=True), end="read")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"takes up to \d+ lookup tables and there are 50"):
        build(path, tmp_path / "out", Options(luts=50), Console(quiet=True), end="fold")
    with pytest.raises(ExportError, match="is no chain of a Thermometer"):
        read_tables(torch.nn.Sequential(tables[0]), "wrapped", NORMALIZE, (1, 6, 6))


def test_the_flow_of_tables(tables: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Generate, simulate with Icarus, synthesise, report; then everything is as before."""
    pytest.importorskip("pyosys")
    path, out = tmp_path / "net.json", tmp_path / "out"
    path.write_text(json.dumps(to_json(tables[1])))
    simulator = "icarus" if "icarus" in available() else "cxxrtl"
    arguments = ["fpga", str(path), "--target", "ice40", "--sim", simulator, "--vectors", "20", "--out", str(out)]
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    assert capsys.readouterr().out.count("as before") == NAMES.index("report")
    found = json.loads((out / "report.json").read_text())
    assert found["totals"]["cycles an inference"] == {"value": 1, "kind": "simulated"}
    parts = sum(row["LUT"]["value"] for row in found["layers"])
    assert 0 < parts <= found["totals"]["LUT4"]["value"] < parts + 60  # the shell has a few
    assert json.loads((out / "tables.json").read_text()) == to_json(tables[1])
    page = (out / "report.html").read_text()
    assert "takes an inference in every cycle" in page
    assert "cycles deep" in page


def test_cells_are_counted_by_parts() -> None:
    for name, owner in (
        ("core.layer0.y_LUT4", "layer0"),
        ("$flatten\\core.$flatten\\layer1.$auto$3", "layer1"),
        ("loader.ring_FF", "loader"),
        ("clk_buf", ""),
    ):
        assert owner_of(name, "pins") == owner
    assert owner_of("flow.places.n_LUT", "top") == "flow"

"""The commands behind docs/results/runtime.md: layers run beside their peers, tables are whole."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bnnapps.kernels.library import library_path

pytestmark = pytest.mark.skipif(library_path() is None, reason="the kernels are measured, and were not built here")


def script(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_layers_are_measured_beside_their_peers(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = script("kernels")
    monkeypatch.setattr(kernels, "SHAPES", (kernels.Shape("3x3 5x5 32", 5, 32, 32, 3),))
    kernels.main(["--threads", "1", "--rounds", "1"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| 3x3 5x5 32 | 1 | 1 |"))
    assert row.count("x)") >= 3, "floats in and out, float32, int8"


def test_a_sweep_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = script("kernels")
    kernels.main(["--threads", "1", "--rounds", "1", "--sweep", str(tmp_path / "sweep.svg")])
    assert "<svg" in (tmp_path / "sweep.svg").read_text()


def test_multiply_adds_of_a_layer() -> None:
    kernels = script("kernels")
    assert [shape.macs(1) for shape in kernels.SHAPES[:4]] == [115_605_504] * 4
    assert kernels.SHAPES[5].macs(2) == 2 * 128 * 768 * 768


def test_the_table_of_networks(tmp_path: Path, capsys: Any) -> None:
    runtime = script("runtime")
    record = tmp_path / "bireal18" / "bench.json"
    record.parent.mkdir()
    rows = [
        {"name": name, "threads": 1, "batch": 1, "median": median, "p10": median - 1, "p90": median + 1}
        for name, median in (("packed", 2.0), ("float", 18.0), ("int8", 6.0))
    ]
    record.write_text(json.dumps({"latencies": rows}))
    runtime.main(["--out", str(tmp_path), "--nets", "bireal18", "quicknet", "--table"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| bireal18 | 1 | 1 | 2.00 (1.00-3.00) | 18.00 | 6.00 | 9.0x | 3.0x |"
    assert lines[3] == "| quicknet | | | *open* | | | | |"

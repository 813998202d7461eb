"""The costs of keyword networks, on a small one."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "keywords_costs.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("keywords_costs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_line_for_each_file_and_one_for_the_features(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deepest = script.depths_of
    monkeypatch.setattr(script, "METHODS", {"float": None})
    monkeypatch.setattr(script, "depths_of", lambda network: list(deepest(network))[-1:])
    lines = script.costs(argparse.Namespace(out=tmp_path, channels=4, words=3, runs=2))
    assert len(lines) == 2
    cells = [cell.strip() for cell in lines[0].split("|")]
    assert cells[1:3] == ["float", "2"]
    assert cells[4] == "0.0 %"
    file = tmp_path / "float-2-layers.onnx"
    assert cells[6] == f"{file.stat().st_size / 1024:.0f} KiB"
    assert float(cells[7]) > 0
    assert "log-mel" in lines[1]

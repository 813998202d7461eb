"""The commands of the ModelNet10 table: one budget for every row."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bnnapps.recipe.load import load_recipe

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pointclouds_table.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("pointclouds_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(out: Path, **more: Any) -> argparse.Namespace:
    given = {"out": out, "data": Path("voxels.npz"), "epochs": 5, "points": 64, "stored": 512, "batch_size": 32}
    return argparse.Namespace(**(given | {"width": 0.25, "lr": 2e-3, "seeds": [42, 43]} | more))


def test_rows_differ_in_method_and_aggregation_alone(script: Any, tmp_path: Path) -> None:
    seen = set()
    for row in script.ROWS:
        command = script.command_of(row, 42, options(tmp_path))
        recipe = load_recipe(command[2], command[6::2])
        assert recipe.model.options["width"] == 0.25
        assert (recipe.train.epochs, recipe.train.lr, recipe.data.points) == (5, 2e-3, 64)
        assert (recipe.data.source, recipe.data.batch_size) == ("modelnet_voxels", 32)
        method, _, pool = row.partition("-")
        if method == "float":
            assert recipe.binarize is None
            assert recipe.model.options["pool"] == pool
            continue
        if method == "poem":
            assert (recipe.binarize.method, recipe.model.options["unit"]) == (method, "double_norm")
            assert not [rule for rule in recipe.binarize.rules if "aggregation" in rule.get("types", [])]
            continue
        assert "unit" not in recipe.model.options
        rules = recipe.binarize.rules
        assert recipe.binarize.method == method
        assert rules[3]["use"]["pool"] == pool
        assert rules[2]["use"]["becomes"] == ("hardtanh" if pool == "max" else "identity")
        seen.add((method, pool))
    assert len(seen) == 18
    assert len(script.DEFAULT) == 18


def test_cost_of_a_command(script: Any) -> None:
    found = script.measured([sys.executable, "-c", "x = bytearray(2**26); sum(range(10**6))"])
    assert found["peak_bytes"] > 2**26
    assert found["cpu_seconds"] > 0
    with pytest.raises(script.subprocess.CalledProcessError):
        script.measured([sys.executable, "-c", "raise SystemExit(3)"])


def test_table_of_what_is_there(script: Any, tmp_path: Path) -> None:
    for seed, score in ((42, 0.5), (43, 0.6)):
        folder = script.folder_of("bnn-max", seed, options(tmp_path))
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"stages": [{"last": {"accuracy": score}}]}))
        lines = [{"dev/accuracy": score + 0.1}, {"loss": 1.0}, {"dev/accuracy": score}]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        cost = {"cpu_seconds": 50.0, "peak_bytes": 2**30, "epochs": 5, "whole": seed == 42}
        (folder / "cost.json").write_text(json.dumps(cost))
    found = script.table(options(tmp_path, rows=["bnn-max", "xnor-max"])).splitlines()
    assert found[2] == "| BNN, max | 55.0 | 65.0 | 50.0, 60.0 | 10.0 | 1024 MiB |"
    assert found[3] == "| XNOR-Net, max | open | | | | |"


def test_a_row_that_was_begun_is_resumed(script: Any, tmp_path: Path) -> None:
    folder = script.folder_of("bnn-max", 42, options(tmp_path))
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("task: pointclouds\n")
    assert script.command_of("bnn-max", 42, options(tmp_path))[1:] == ["run", "--resume", str(folder)]

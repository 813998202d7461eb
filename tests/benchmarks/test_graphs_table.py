"""The benchmark on graphs: every row is a recipe that loads, and results become a table."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bnnapps.recipe.load import load_recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def table() -> Any:
    spec = importlib.util.spec_from_file_location("graphs_table", ROOT / "benchmarks" / "graphs_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["graphs_table"] = module
    spec.loader.exec_module(module)
    return module


def test_every_row_is_a_recipe_that_loads(table: Any) -> None:
    for row, (name, title, _) in table.ROWS.items():
        recipe = load_recipe(name, table.settings_of(row, 13, Path("/data")))
        assert recipe.task == "graphs"
        assert title
        if row.startswith(("mutag", "proteins")):
            assert (recipe.seed, recipe.data.split, recipe.data.source) == (42, 3, "tu")
            assert len(recipe.train.resolved()) == 1
            assert (recipe.binarize is None) == row.endswith("float")
        else:
            assert recipe.seed == 13
            assert len(recipe.train.resolved()) == (4 if row.startswith("clouds") else 1)
        root = recipe.data.clouds["root"] if row.startswith("clouds") else recipe.data.root
        assert root.startswith("/data/")


def test_results_become_rows(table: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, accuracy in ((0, 0.81), (1, 0.83)):
        scores = {"accuracy": 0.5, "test_accuracy": accuracy}
        stage = {"stage": "train", "best": scores, "last": scores | {"test_accuracy": 0.8}}
        stage |= {"seconds": 20.0, "steps": 200, "epochs": 20}
        (tmp_path / f"cora-float-{seed}.json").write_text(json.dumps({"stages": [stage], "memory": 2**30}))
    table.main(["--out", str(tmp_path), "--table"])
    (row,) = capsys.readouterr().out.strip().splitlines()[2:]
    assert row == "| GCN, float | 82.0 ± 1.4 | 80.0 ± 0.0 | 2 | 0.100 | 1024 MiB |"

"""The commands of the CamVid table: one budget for every row, and what each row makes binary."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from bnnapps.recipe.load import load_recipe

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "camvid_table.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("camvid_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recipe_of(script: Any, row: str, out: Path) -> Any:
    command = script.command_of(row, 43, script.parsed(["--out", str(out), "--data", "camvid", "--epochs", "7"]))
    return load_recipe(command[2], [command[i + 1] for i, word in enumerate(command) if word == "--set"])


def test_every_row_has_the_same_budget(script: Any, tmp_path: Path) -> None:
    recipes = {row: recipe_of(script, row, tmp_path) for row in script.ROWS}
    found = [r.train.model_copy(update={"init": None}).model_dump() for r in recipes.values()]
    assert all(one == found[0] for one in found)
    assert found[0]["epochs"] == 7
    assert found[0]["select"] == "last"
    for row, recipe in recipes.items():
        road = row.startswith("road")
        assert (recipe.data.only, recipe.data.dev_list, recipe.seed) == ("road" if road else None, "test", 43)
        assert (recipe.model.name, recipe.data.size) == (("dadnet", [128, 160]) if road else (None, [120, 160]))
        start = script.STARTS.get(row)
        expected = None if start is None else str(tmp_path / f"{start}-43" / "model.ckpt")
        assert recipe.train.resolved()[0].init == expected


def test_rows_have_their_bases_and_dilations(script: Any, tmp_path: Path) -> None:
    found = {row: recipe_of(script, row, tmp_path).binarize for row in script.ROWS}
    assert [row for row, one in found.items() if one is None] == ["float", "float_on", "road_float"]
    assert [found[row].overrides for row in ("one", "groupnet", "bpac")] == [{"bases": 1}, {"bases": 5}, {"bases": 5}]
    assert (found["road"].method, found["one"].rules, found["groupnet"].rules) == ("xnor", [], [])
    assert [rule["use"]["dilations"] for rule in found["bpac"].rules] == [[1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]


def test_a_run_that_was_begun_is_resumed_and_a_finished_one_is_in_the_table(script: Any, tmp_path: Path) -> None:
    folder = tmp_path / "one-42"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("")
    options = script.parsed(["--out", str(tmp_path), "--rows", "one", "bpac"])
    assert script.command_of("one", 42, options)[-2:] == ["--resume", str(folder)]
    last = {"miou": 0.4123, "pixel_accuracy": 0.85, "iou/road": 0.9, "iou/sky": 0.7}
    (folder / "result.json").write_text(json.dumps({"stages": [{"last": last}]}))
    (folder / "summary.json").write_text(json.dumps(dict.fromkeys(("ops_paper", "flops", "bops", "packed_bytes"), 2e6)))
    table = script.table(options)
    assert "| one binary branch | 41.2 | 41.2 | 85.0 | 90.0 | 2.0 | 2.0 | 2.0 | 2.00 |" in table
    assert "| Group-Net with BPAC, K = 5 | open |" in table
    assert script.class_lines(options).splitlines()[-1] == "| one binary branch | 90.0 | 70.0 |"

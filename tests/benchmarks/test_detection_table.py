"""The commands of the detection table: one start and one budget for every row."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from bnnapps.recipe.load import load_recipe

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "detection_table.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("detection_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(script: Any, out: Path, *more: str) -> Any:
    return script.read_options(["--out", str(out), "--data", "blood", "--epochs", "7", "--pretrain", "3", *more])


def settings(command: list[str]) -> dict[str, str]:
    pairs = [command[i + 1] for i, word in enumerate(command) if word == "--set"]
    return dict(pair.split("=", 1) for pair in pairs)


def test_rows_differ_in_their_layers_and_losses_alone(script: Any, tmp_path: Path) -> None:
    given = options(script, tmp_path)
    found = {}
    for row in script.ROWS:
        changes = settings(script.command_of(row, 43, given))
        recipe = load_recipe("bidet_ssd300", [f"{key}={value}" for key, value in changes.items()])
        assert recipe.train.epochs == (3 if row == "start" else 7)
        assert recipe.train.init == (None if row == "start" else str(tmp_path / "start-43" / "model.ckpt"))
        assert (recipe.binarize is None) == (row in ("start", "float"))
        changes["train"] = {k: v for k, v in json.loads(changes["train"]).items() if k != "losses"}  # type: ignore[assignment]
        found[row] = {k: v for k, v in changes.items() if k != "binarize"}
    del found["start"]
    assert all(one == found["float"] for one in found.values())


def test_the_losses_of_bidet_begin_at_the_first_drop(script: Any, tmp_path: Path) -> None:
    given = options(script, tmp_path, "--milestones", "0.5", "0.8")
    names = {row: [loss["name"] for loss in script.losses_of(row, given)] for row in script.ROWS}
    assert names["bidet"] == names["bidet_sc"] == ["task", "bidet_bottleneck", "bidet_prior"]
    assert names["autobidet_sc"] == ["task", "autobidet_bottleneck", "bidet_prior"]
    others = {row for row in script.ROWS if row.endswith("_base") or "bidet" not in row}
    assert all(names[row] == ["task"] for row in others)
    assert {loss["start"] for loss in script.losses_of("bidet", given)[1:]} == {0.5}


def test_without_a_shared_start_every_row_is_random(script: Any, tmp_path: Path) -> None:
    train = json.loads(settings(script.command_of("bnn", 42, options(script, tmp_path, "--pretrain", "0")))["train"])
    assert train["init"] is None


def test_a_run_that_was_begun_is_resumed_and_a_finished_one_is_in_the_table(script: Any, tmp_path: Path) -> None:
    given = options(script, tmp_path, "--rows", "float", "bireal", "bnn", "--seeds", "42", "43")
    for row, map50 in (("float", 0.8), ("bireal", 0.6)):
        folder = tmp_path / f"{row}-42"
        folder.mkdir()
        (folder / "recipe.yaml").write_text("")
        metrics = {"map50": map50, "map": 0.3, "false_positives_per_image": 1.25, "recall": 0.5}
        (folder / "result.json").write_text(json.dumps({"stages": [{"last": metrics}]}))
        (folder / "summary.json").write_text(json.dumps({"ops_paper": 30e6, "packed_bytes": 5e5}))
    assert script.command_of("bireal", 42, given)[-2:] == ["--resume", str(tmp_path / "bireal-42")]
    table = script.table(given)
    assert "| Bi-Real Net | 60.0 | 60.0 | 75 % | 30.0 | 1.25 | 50.0 | 30.0 | 0.50 |" in table
    assert "| BNN | open |" in table

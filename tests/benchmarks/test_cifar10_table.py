"""The commands of the CIFAR-10 table: one budget for every row."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cifar10_table.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("cifar10_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(out: Path, **more: Any) -> argparse.Namespace:
    given = {"out": out, "data": Path("cifar"), "epochs": 7, "batch_size": 128, "lr": 0.003, "profile": None}
    return argparse.Namespace(**(given | more))


def settings(command: list[str]) -> dict[str, str]:
    pairs = [command[i + 1] for i, word in enumerate(command) if word == "--set"]
    return dict(pair.split("=", 1) for pair in pairs)


def test_students_in_a_row_share_the_epochs_and_learn_from_the_float_row(script: Any, tmp_path: Path) -> None:
    teacher = str(tmp_path / "float-42" / "model.ckpt")
    stages = json.loads(settings(script.command_of("real2binary", 42, options(tmp_path)))["train.stages"])
    assert [(s["name"], s["epochs"], s["teacher"], s.get("init")) for s in stages] == [
        ("real", 2, teacher, None),
        ("binary_activations", 2, "real", "real"),
        ("binary", 3, "binary_activations", "binary_activations"),
    ]
    stages = json.loads(settings(script.command_of("reactnet", 42, options(tmp_path)))["train.stages"])
    assert [(s["epochs"], s["teacher"]) for s in stages] == [(3, teacher), (4, teacher)]


def test_every_row_has_the_same_budget(script: Any, tmp_path: Path) -> None:
    varying = ("train.optimizer.groups", "train.stages", "train.losses")
    found = []
    for row in script.ROWS:
        given = settings(script.command_of(row, 43, options(tmp_path)))
        stages = json.loads(given["train.stages"])
        assert not stages or sum(s["epochs"] for s in stages) == 7
        found.append({k: v for k, v in given.items() if k not in varying})
    assert all(one == found[0] for one in found)
    assert found[0]["train.epochs"] == "7"


def test_a_run_that_was_begun_is_resumed_and_a_finished_one_is_in_the_table(script: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bnn-42"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("")
    assert script.command_of("bnn", 42, options(tmp_path))[-2:] == ["--resume", str(folder)]
    (folder / "result.json").write_text(json.dumps({"stages": [{"last": {"accuracy": 0.8123}}]}))
    table = script.table(options(tmp_path, rows=["bnn", "irnet"], seeds=[42, 43]))
    assert "| BNN | 81.2 | 81.2 |" in table
    assert "| IR-Net | open |  |" in table

"""The commands of the digits table: one budget for every row."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from bnnapps.recipe.load import load_recipe

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "keywords_table.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("keywords_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(out: Path, **more: Any) -> argparse.Namespace:
    given = {"out": out, "data": Path("digits"), "epochs": 3, "float_epochs": 6, "batch_size": 60, "channels": 64}
    return argparse.Namespace(**(given | {"lr": 4e-3, "seeds": [42, 43], "speakers_out": []} | more))


def test_rows_differ_in_method_and_what_belongs_to_it_alone(script: Any, tmp_path: Path) -> None:
    given = options(tmp_path, speakers_out=["lucas"])
    start = str(script.folder_of("float", 42, given) / "model.ckpt")
    for row in script.ROWS:
        command = script.command_of(row, 42, given)
        recipe = load_recipe(command[2], command[6::2])
        data, model = recipe.data, recipe.model
        assert (data.source, data.root, data.batch_size, data.speakers_out) == ("fsdd", "digits", 60, ["lucas"])
        assert data.augment.none
        depth = {"float-4": 4, "float-2": 2}.get(row, 8)
        own = {} if row.startswith("float") or row.endswith("shared") else {"own_norms": True}
        assert model.options == {"channels": 64, "hidden": 128, "depth": depth, **own}
        assert model.thinnable == (None if row.startswith("float") else [1.0, 0.5, 0.25])
        assert model.teacher == {"nonlinearity": "relu", "dropout": 0.2}
        (stage,) = recipe.train.resolved()
        assert (stage.lr, stage.optimizer.name, stage.optimizer.weight_decay, stage.select) == (4e-3, "adam", 0, "last")
        losses = [(term.name, term.weight) for term in stage.losses]
        if row.startswith("float"):
            assert (stage.binarize, stage.epochs, losses) == (False, 6, [("task", 1.0)])
            continue
        method = row.removesuffix("-shared")
        assert (recipe.binarize.method, stage.epochs, stage.init) == (method, 3, start)
        assert stage.teacher == (start if method in ("bifsmn", "bifsmnv2") else None)
        assert len(stage.optimizer.groups) == (method == "bifsmnv2")
        more = {"bifsmn": [("high_frequency", 0.01)]}
        more["bifsmnv2"] = [("frequency_independent", 0.01), ("logit_mse", 0.01)]
        assert losses == [("task", 1.0), *more.get(method, [])]


def test_table_of_what_is_there(script: Any, tmp_path: Path) -> None:
    for seed, score in ((42, 0.5), (43, 0.6)):
        folder = script.folder_of("bnn", seed, options(tmp_path))
        folder.mkdir(parents=True)
        last = {"accuracy": score, "accuracy_option1": score - 0.1, "accuracy_option2": score - 0.2}
        (folder / "result.json").write_text(json.dumps({"stages": [{"last": last}]}))
        (folder / "recipe.yaml").write_text("train: {epochs: 5}\n")
        (folder / "cost.json").write_text(json.dumps({"cpu_seconds": 50.0, "peak_bytes": 1, "whole": seed == 42}))
    for row, score in (("float", 0.9), ("float-4", 0.8)):
        folder = script.folder_of(row, 42, options(tmp_path))
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps({"stages": [{"last": {"accuracy": score}}]}))
    found = script.table(options(tmp_path, rows=["bnn", "xnor", "float", "float-4"])).splitlines()
    assert found[2] == "| BNN | 55.0 | 45.0 | 35.0 | 50.0, 60.0 | 10.0 |"
    assert found[3] == "| XNOR-Net | *open* | | | | |"
    assert found[4] == "| float, 8 layers | 90.0 |  |  | 90.0 | – |"
    assert found[5] == "| float, 4 layers |  | 80.0 |  | 80.0 | – |"


def test_the_float_row_comes_before_those_that_start_from_it(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def note(command: list[str]) -> dict[str, float]:
        folder = Path(command[command.index("--out") + 1])
        folder.mkdir(parents=True)
        ran.append(folder.name)
        return {"cpu_seconds": 1.0, "peak_bytes": 1.0}

    monkeypatch.setattr(script, "measured", note)
    script.run(options(tmp_path, rows=["xnor", "bnn"]))
    assert ran == ["float-42", "xnor-42", "bnn-42", "float-43", "xnor-43", "bnn-43"]


def test_a_row_that_was_begun_is_resumed(script: Any, tmp_path: Path) -> None:
    folder = script.folder_of("bnn", 42, options(tmp_path))
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("task: keywords\n")
    assert script.command_of("bnn", 42, options(tmp_path))[1:] == ["run", "--resume", str(folder)]

"""Every shipped recipe of point clouds: its settings, its baselines, and two steps."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from recipe_comments import bare_keys
from rich.console import Console

import bnnapps
from bnnapps.errors import RecipeError
from bnnapps.plugins.pointclouds.config import CloudModel
from bnnapps.plugins.pointclouds.data_config import CloudData
from bnnapps.recipe.load import as_recipe, dump_recipe, load_recipe, shipped_recipes
from bnnapps.recipe.reader import read_yaml
from bnnapps.recipe.schema import BinarizeConfig, OptimizerConfig, ScheduleConfig, Training
from bnnapps.training.runner import open_run, preview, run_recipe
from bnnapps.training.stages import check_stages

RECIPES = (
    "bipointnet2_modelnet",
    "bipointnet_dgcnn_modelnet",
    "bipointnet_modelnet",
    "bipointnet_s3dis",
    "bipointnet_shapenet",
)
EMBEDDED = {"bipointnet_s3dis": "rooms"}
TINY = ["data.points=32", "data.train_size=6", "data.dev_size=4", "data.batch_size=3"]


def test_these_recipes_are_shipped() -> None:
    assert tuple(n for n in shipped_recipes() if n.startswith("bipointnet")) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_every_profile_loads_and_reads_back_equal(name: str) -> None:
    profiles = list(read_yaml(shipped_recipes()[name].read_text(encoding="utf-8"))["profiles"])
    assert profiles[0] == "quick"
    for profile in [None, *profiles]:
        recipe = load_recipe(name, [] if profile is None else [f"profile={profile}"])
        check_stages(recipe.train.resolved())
        assert as_recipe(read_yaml(dump_recipe(recipe)), "again") == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_key_has_a_comment_and_stands_there(name: str) -> None:
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert bare_keys(text) == []
    assert max(map(len, text.splitlines())) <= 130
    values, recipe = read_yaml(text), load_recipe(name)
    assert values.keys() == type(recipe).model_fields.keys()
    assert values["data"].keys() == CloudData.model_fields.keys()
    assert values["model"].keys() == CloudModel.model_fields.keys()
    assert values["binarize"].keys() == BinarizeConfig.model_fields.keys()
    assert values["train"].keys() == {*Training.model_fields, "stages"}
    assert values["train"]["optimizer"].keys() == OptimizerConfig.model_fields.keys()
    assert values["train"]["schedule"].keys() == ScheduleConfig.model_fields.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_published_settings(name: str) -> None:
    recipe: Any = load_recipe(name)
    train = recipe.train
    assert (train.optimizer.name, train.lr, train.optimizer.weight_decay) == ("adam", 1e-3, 0.0)
    assert (train.schedule.name, train.schedule.end) == ("cosine", 0.0)
    expected = {
        "bipointnet_modelnet": (200, 256, 1024),
        "bipointnet_shapenet": (250, 96, 4096),
        "bipointnet_s3dis": (128, 128, 4096),
    }
    if name in expected:
        assert (train.epochs, recipe.data.batch_size, recipe.data.points) == expected[name]


def specs(*more: str) -> dict[str, Any]:
    recipe = load_recipe("bipointnet_modelnet", ["profile=quick" + "".join(f"+{m}" for m in more), *TINY])
    return {e.name: e.spec for e in preview(recipe)[1].stages[-1][1].entries}


@pytest.mark.parametrize("method", ["bipointnet", "bnn", "xnor", "bireal", "irnet", "xnorpp"])
@pytest.mark.parametrize("pool", ["ema_max", "ema_avg", "max"])
def test_baselines_change_layers_and_aggregation_alone(method: str, pool: str) -> None:
    found = specs(*([] if method == "bipointnet" else [method]), *([] if pool == "ema_max" else [pool]))
    linear = bnnapps.methods.get_method(method).layers["linear"]
    real = [name for name, spec in found.items() if spec is None]
    assert real == ["trunk.input_transform.mlp.0.linear", "trunk.units.0.linear", "head.scores"]
    for name, spec in found.items():
        kind = name.rpartition(".")[2]
        if spec is None:
            continue
        if kind == "pool":
            assert spec.pool == pool
        elif kind == "pool_act":
            assert spec.becomes == ("hardtanh" if pool == "max" else "identity")
        elif kind == "act":
            assert spec.becomes == "hardtanh"
        else:
            assert spec == linear


def test_poem_has_the_published_losses_and_units() -> None:
    recipe: Any = load_recipe("bipointnet_modelnet", ["profile=poem"])
    weights = {loss.name: loss.weight for loss in recipe.train.losses}
    assert weights == {"task": 1, "orthogonal_transform": 1e-3, "weight_reconstruction": 1e-4, "weight_modes": 1e-3}
    found = specs("poem")
    real = {"trunk.input_transform.mlp.0.linear", "trunk.units.0.linear", "head.scores"}
    pools = {"trunk.input_transform.pool", "trunk.feature_transform.pool", "trunk.pool"}
    assert {n for n, spec in found.items() if spec is None} == real | pools
    linear = bnnapps.methods.get_method("poem").layers["linear"]
    assert all(spec == linear for spec in found.values() if spec is not None)


def test_weights_that_no_layer_has_are_named_before_anything_runs() -> None:
    with pytest.raises(RecipeError, match="'weight_reconstruction' reads the weights of binary layers, and here no"):
        preview(load_recipe("bipointnet_modelnet", ["profile=quick+poem", *TINY, "binarize=null"]))


def test_two_steps_of_poem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnapps.training.runner.refresh_report", lambda folder: None)
    small = ["train.epochs=null", "train.steps=2", "export.dialects=[packed]", "trainer.log_every_n_steps=1"]
    result = run_recipe(
        load_recipe("bipointnet_modelnet", ["profile=quick+poem", *TINY, *small]), tmp_path, Console(file=io.StringIO())
    )
    (parity,) = (tmp_path / "export").rglob("*.parity.json")
    assert json.loads(parity.read_text())["verdict"] == "exact"
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert any(e.get("loss/weight_modes", 0) > 0 and e["loss/weight_reconstruction"] > 0 for e in logged)
    assert result["stages"][0]["steps"] == 2


@pytest.mark.parametrize("name", RECIPES)
def test_two_steps(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnapps.training.runner.refresh_report", lambda folder: None)  # slow, and tested with the task
    small = ["train.epochs=null", "train.steps=2", "export.dialects=[]", "model.options.width=0.125"]
    recipe = load_recipe(name, ["profile=quick", *TINY, *small])
    result = run_recipe(recipe, tmp_path, Console(file=io.StringIO()))
    assert EMBEDDED.get(name, "shapes10") in result["data"]["data"]
    task, model, _ = open_run(tmp_path)
    bnnapps.plan_of(model).assert_ran(model, task.example_inputs())

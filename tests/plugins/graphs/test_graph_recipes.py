"""Every shipped recipe of graphs: its settings, and two steps of each of its stages."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from recipe_comments import bare_keys
from rich.console import Console

from bnnapps.plugins.graphs.config import GraphData, GraphModel
from bnnapps.recipe.load import as_recipe, dump_recipe, load_recipe, shipped_recipes
from bnnapps.recipe.reader import read_yaml
from bnnapps.recipe.schema import BinarizeConfig, OptimizerConfig, ScheduleConfig, Training
from bnnapps.training.checkpoint import load_file
from bnnapps.training.runner import run_recipe
from bnnapps.training.stages import check_stages

RECIPES = ("bigcn_cora", "binary_dgcnn_modelnet", "binary_sage")


def test_these_recipes_are_shipped() -> None:
    found = [n for n, path in shipped_recipes().items() if "\ntask: graphs " in path.read_text(encoding="utf-8")]
    assert tuple(found) == RECIPES


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
    assert values["data"].keys() == GraphData.model_fields.keys()
    assert values["model"].keys() == GraphModel.model_fields.keys()
    assert values["binarize"].keys() == BinarizeConfig.model_fields.keys()
    assert values["train"].keys() == {*Training.model_fields, "stages"}
    assert values["train"]["optimizer"].keys() == OptimizerConfig.model_fields.keys()
    assert values["train"]["schedule"].keys() == ScheduleConfig.model_fields.keys()


def test_bigcn_has_its_published_settings() -> None:
    recipe = load_recipe("bigcn_cora")
    train, model = recipe.train, recipe.model
    assert (train.optimizer.name, train.lr, train.optimizer.weight_decay, train.epochs) == ("adam", 1e-3, 5e-4, 1000)
    assert (model.hidden, model.layers, model.activation, model.input_norm) == (64, 2, "none", True)
    assert recipe.binarize.overrides == {"activation.dropout": 0.4}
    assert (recipe.data.select_by, train.select) == ("loss", "best")


def test_another_method_can_drop_the_overrides() -> None:
    recipe = load_recipe("bigcn_cora", ["binarize={method: bgn, overrides: null}"])
    assert recipe.binarize is not None
    assert (recipe.binarize.method, recipe.binarize.overrides) == ("bgn", {})


def test_the_float_profile_is_the_network_of_kipf_and_welling() -> None:
    recipe = load_recipe("bigcn_cora", ["profile=float"])
    assert recipe.binarize is None
    assert (recipe.model.activation, recipe.model.dropout, recipe.model.input_norm) == ("relu", 0.5, False)
    assert (recipe.train.lr, recipe.train.epochs, recipe.data.unit_rows) == (0.01, 200, True)
    (group,) = recipe.train.optimizer.groups
    assert (group.match, group.weight_decay) == ("encoder.convs.1.*", 0.0)


def test_binary_dgcnn_has_the_published_cascade() -> None:
    stages = load_recipe("binary_dgcnn_modelnet").train.resolved()
    assert [(s.name, s.init, s.teacher) for s in stages] == [
        ("float", None, None),
        ("tanh", None, "float"),
        ("signs", "tanh", "tanh"),
        ("binary", "signs", "signs"),
    ]
    assert [(s.lr, s.epochs, s.optimizer.weight_decay) for s in stages] == [
        (0.1, 250, 1e-4),
        (1e-3, 250, 1e-5),
        (2.5e-4, 350, 1e-5),
        (1e-3, 350, 0.0),
    ]
    kernels_of = [("l2", "l2"), ("hamming", "l2"), ("hamming", "hamming")]
    for stage, kernels in zip(stages[1:], kernels_of, strict=True):
        task, soft, structure = stage.losses
        assert (task.weight, task.options["label_smoothing"]) == (0.9, 0.2)
        # alpha T^2 = 0.1 * 9
        assert (soft.weight, soft.options) == (0.9, {"temperature": 3.0, "reduction": "batch"})
        assert (structure.name, structure.weight) == ("local_structure", 100.0)
        assert (structure.options["student"], structure.options["teacher"]) == kernels
    assert (stages[0].optimizer.name, stages[0].schedule.end) == ("sgd", 0.01)
    assert [loss.name for loss in stages[0].losses] == ["task"]
    assert [round(m * 350) for m in stages[3].schedule.milestones] == [50, 100, 150, 200, 250, 300]


SMALL = {
    "bigcn_cora": [],
    "binary_sage": ["data.batch_size=70"],
    "binary_dgcnn_modelnet": ["data.train_size=20", "data.dev_size=10", "data.batch_size=10", "data.clouds.points=24"],
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_to_its_end(name: str, tmp_path: Path) -> None:
    stages = [s.name for s in load_recipe(name, ["profile=quick"]).train.stages]
    lengths = ["train.epochs=null", "train.steps=2", *(f"train.stages.{s}.epochs=null" for s in stages)]
    recipe = load_recipe(name, ["profile=quick", *SMALL[name], *lengths])
    result = run_recipe(recipe, tmp_path, Console(file=io.StringIO()))
    resolved = recipe.train.resolved()
    assert [s["steps"] for s in result["stages"]] == [2] * len(resolved)
    assert all(0 <= s["metrics"]["accuracy"] <= 1 for s in result["stages"])
    plans = []
    for number, stage in enumerate(resolved, 1):
        plan = load_file(tmp_path / "stages" / f"{number}-{stage.name}" / "model.ckpt").get("plan")
        plans.append({(e["type"], e["method"]) for e in plan["layers"] if e["method"]} if plan else set())
    if name == "bigcn_cora":
        assert plans == [{("pyg.Linear", "bigcn")}]
    else:
        linear = "pyg.Linear" if name == "binary_sage" else "linear"
        signs = {("squash", "binarygnn")}
        floats = [set()] if name == "binary_sage" else [set(), set()]
        assert plans == [*floats, signs, signs | {(linear, "binarygnn")}]
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(v) for e in events for v in e.values() if isinstance(v, float))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Embedding" in page
    assert "generated" in page

"""Every shipped recipe of segmentation: its settings, and two steps of each of its stages."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from recipe_comments import bare_keys
from rich.console import Console

from bnnapps.plugins.segmentation.config import SegmentationData, SegmentationModel
from bnnapps.recipe.load import as_recipe, dump_recipe, load_recipe, shipped_recipes
from bnnapps.recipe.reader import read_yaml
from bnnapps.recipe.schema import BinarizeConfig, OptimizerConfig, ScheduleConfig, Training
from bnnapps.training.checkpoint import load_file
from bnnapps.training.runner import preview, run_recipe
from bnnapps.training.stages import check_stages

RECIPES = ("bpac_fcn", "dadnet_road", "groupnet_fcn")
SMALL = "data={source: synthetic_road, root: null, train_size: 6, dev_size: 4, batch_size: 3, size: [48, 64]}"


def test_these_recipes_are_shipped() -> None:
    assert tuple(n for n in shipped_recipes() if n.endswith(("_fcn", "_road"))) == RECIPES


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
    assert values["data"].keys() == SegmentationData.model_fields.keys()
    assert values["model"].keys() == SegmentationModel.model_fields.keys()
    assert values["binarize"].keys() == BinarizeConfig.model_fields.keys()
    assert values["train"].keys() == {*Training.model_fields, "stages"}
    assert values["train"]["optimizer"].keys() == OptimizerConfig.model_fields.keys()
    assert values["train"]["schedule"].keys() == ScheduleConfig.model_fields.keys()


@pytest.mark.parametrize("name", ["groupnet_fcn", "bpac_fcn"])
def test_group_net_has_its_published_settings(name: str) -> None:
    recipe = load_recipe(name)
    train = recipe.train
    assert (train.optimizer.name, train.lr, train.optimizer.weight_decay) == ("adam", 1e-4, 1e-5)
    assert (train.epochs, recipe.data.batch_size, train.schedule.name) == (40, 16, "step")
    assert [m * train.epochs for m in train.schedule.milestones] == [20, 30]
    assert train.schedule.gamma == 0.1
    assert (recipe.model.backbone, recipe.model.head) == ("resnet18", "fcn16s")
    assert [(s.name, s.binarize, s.init) for s in train.resolved()] == [
        ("float", False, None),
        ("binary", None, "float"),
    ]


def planned(name: str, *more: str):
    recipe = load_recipe(
        name, [SMALL, "model.pretrained=false", "data.fit=stretch", "data.crop=null", "data.augment=flip", *more]
    )
    return preview(recipe)[1].stages[-1][1]


@pytest.mark.parametrize(("name", "dilated"), [("groupnet_fcn", False), ("bpac_fcn", True)])
def test_group_net_has_five_bases_in_each_block(name: str, dilated: bool) -> None:
    plan = planned(name, "data.workers=0")
    blocks = {e.name: e.spec for e in plan.entries if e.type == "residual_block"}
    assert len(blocks) == 8
    for block, spec in blocks.items():
        assert spec.bases == 5
        stage = block.split(".")[1]
        expected = {"layer3": (2, 3, 4, 5, 6), "layer4": (6, 7, 8, 9, 10)}.get(stage) if dilated else None
        assert spec.dilations == expected
        assert [(c.activation.unsigned, c.activation.scale, c.weight.scale) for c in spec.convs] == [
            (True, "unit", "mean_abs")
        ] * 2
    assert {e.name for e in plan.kept if "keep_" in e.reason} == {"backbone.conv1", "head.scores.0", "head.scores.1"}


def test_dadnet_is_binary_but_for_its_first_and_last_layer() -> None:
    plan = planned("dadnet_road", "data.workers=0")
    assert [e.name for e in plan.kept] == ["encoder.0.conv", "classifier"]
    units = [e for e in plan.binarized if e.type == "conv_unit"]
    assert all((e.spec.norm, e.spec.nonlinearity) == ("before", "none") for e in units)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_to_its_end(name: str, tmp_path: Path) -> None:
    stages = [s.name for s in load_recipe(name, ["profile=quick"]).train.stages]
    lengths = ["train.epochs=null", "train.steps=2", *(f"train.stages.{s}.epochs=null" for s in stages)]
    width = "model.options.width=8"
    recipe = load_recipe(name, ["profile=quick", SMALL, *lengths, width, "export.dialects=[]"])
    result = run_recipe(recipe, tmp_path, Console(file=io.StringIO()))
    resolved = recipe.train.resolved()
    assert [s["steps"] for s in result["stages"]] == [2] * len(resolved)
    assert all(0 <= s["metrics"]["miou"] <= 1 for s in result["stages"])
    last = tmp_path / "stages" / f"{len(resolved)}-{resolved[-1].name}" / "model.ckpt"
    used = {e["method"] for e in load_file(last)["plan"]["layers"]} - {None}
    assert used == {"xnor" if name == "dadnet_road" else "groupnet"}
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(v) for e in events for v in e.values() if isinstance(v, float))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Overlap of each class" in page
    assert "generated" in page

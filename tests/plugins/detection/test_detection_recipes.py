"""The recipes of BiDet, LWS-Det, ASDA and IDa-Det: what they say, and two steps of each of their stages."""

from __future__ import annotations

import importlib.util
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_comments import bare_keys
from rich.console import Console

from bnnapps.errors import RecipeError
from bnnapps.plugins.detection.config import DetectorModel
from bnnapps.plugins.detection.data_config import DetectionData
from bnnapps.plugins.detection.model import Shape, build_shape
from bnnapps.recipe.load import as_recipe, dump_recipe, load_recipe, shipped_recipes
from bnnapps.recipe.reader import read_yaml
from bnnapps.recipe.schema import BinarizeConfig, OptimizerConfig, ScheduleConfig, Training
from bnnapps.training.checkpoint import load_file
from bnnapps.training.runner import preview, run_recipe
from bnnapps.training.stages import check_stages

BIDET = ("bidet_fasterrcnn", "bidet_mmdet", "bidet_ssd300")
RECIPES = ("asda_fasterrcnn", *BIDET, "idadet_fasterrcnn", "lwsdet_fasterrcnn")
METHODS = {
    "asda_fasterrcnn": "asda",
    **dict.fromkeys(BIDET, "bidet_sc"),
    "idadet_fasterrcnn": "asda",
    "lwsdet_fasterrcnn": "lwsdet",
}
TWO_STEPS = ("train_size=4", "dev_size=2", "batch_size=2", "eval_batch_size=2", "scene_size=64", "scene_digits=2")


def profiles_of(name: str) -> list[str]:
    return list(read_yaml(shipped_recipes()[name].read_text(encoding="utf-8"))["profiles"])


@pytest.mark.parametrize("name", RECIPES)
def test_every_profile_loads_and_reads_back_equal(name: str) -> None:
    for profile in [None, *profiles_of(name)]:
        recipe = load_recipe(name, [] if profile is None else [f"profile={profile}"])
        check_stages(recipe.train.resolved())
        assert as_recipe(read_yaml(dump_recipe(recipe)), "again") == recipe
    assert profiles_of(name)[0] == "quick"


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "bidet_mmdet"])
def test_the_detector_of_every_profile_can_be_built(name: str) -> None:
    """No option is left that another detector would not take."""
    for profile in [None, *profiles_of(name)]:
        recipe: Any = load_recipe(name, [] if profile is None else [f"profile={profile}"])
        with torch.device("meta"):
            build_shape(Shape.of(recipe.model, 20))


@pytest.mark.parametrize("name", RECIPES)
def test_every_key_stands_there_with_a_comment(name: str) -> None:
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert bare_keys(text) == []
    assert max(map(len, text.splitlines())) <= 130
    values, recipe = read_yaml(text), load_recipe(name)
    for key, kind in (("data", DetectionData), ("model", DetectorModel), ("binarize", BinarizeConfig)):
        # swap_channels is BiDet's own, for its SSD.
        assert values[key].keys() >= kind.model_fields.keys() - {"swap_channels"}
    assert values.keys() == type(recipe).model_fields.keys()
    assert values["train"].keys() == {*Training.model_fields, "stages"}
    assert values["train"]["optimizer"].keys() == OptimizerConfig.model_fields.keys()
    assert values["train"]["schedule"].keys() == ScheduleConfig.model_fields.keys()


TWO_STAGES = {"bidet_bottleneck": 0.02, "bidet_rpn_bottleneck": 0.5, "bidet_prior": 0.05, "bidet_rpn_prior": 0.01}
# Optimizer, learning rate, epochs, batch size; losses beyond the detector's own, with their weights.
PUBLISHED: dict[str, tuple[str, float, int | None, int, dict[str, float]]] = {
    "asda_fasterrcnn": ("sgd", 0.004, 12, 4, {}),
    "idadet_fasterrcnn": ("sgd", 0.004, 12, 4, {"proposal_discrepancy": 0.4}),
    "lwsdet_fasterrcnn": (
        "adam", 0.001, 12, 4, {"feature_imitation": 0.01, "layer_angle": 1.0, "layer_amplitude": 1.0}
    ),
    "bidet_ssd300": ("adam", 0.001, None, 32, {"bidet_bottleneck": 0.1, "bidet_prior": 0.2}),
    "bidet_fasterrcnn": ("adam", 0.01, 50, 16, TWO_STAGES),
    "bidet_mmdet": ("adam", 0.01, 50, 16, TWO_STAGES),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_settings(name: str) -> None:
    recipe: Any = load_recipe(name)
    last = recipe.train.resolved()[-1]
    optimizer, lr, epochs, batch, losses = PUBLISHED[name]
    assert (last.optimizer.name, last.lr, last.epochs, recipe.data.batch_size) == (optimizer, lr, epochs, batch)
    assert {loss.name: loss.weight for loss in last.losses if loss.name != "task"} == losses
    teaches = name in ("idadet_fasterrcnn", "lwsdet_fasterrcnn")
    assert last.teacher == ("float" if teaches else None)
    assert recipe.binarize.method == METHODS[name]
    if name == "bidet_ssd300":
        assert last.steps == 300000
        assert [m * last.steps for m in last.schedule.milestones] == pytest.approx([30000, 80000, 200000], rel=1e-4)
    if name in BIDET:  # from the first drop of the rate on
        assert {loss.start for loss in last.losses if loss.name != "task"} == {last.schedule.milestones[0]}


@pytest.mark.parametrize("name", RECIPES)
def test_the_quick_profile_runs_to_its_end(name: str, tmp_path: Path) -> None:
    if name == "bidet_mmdet" and importlib.util.find_spec("mmdet") is None:
        pytest.skip("needs the extra mmdet")
    changes = [f"data.{change}" for change in TWO_STEPS] + ["train.epochs=1", "train.stages.float.epochs=1"]
    changes.append("trainer.log_every_n_steps=1")
    starts = [f"train.losses.{name}.start=0.0" for name in PUBLISHED[name][4]]
    recipe = load_recipe(name, ["profile=quick", *changes, *starts])
    result = run_recipe(recipe, tmp_path, Console(file=io.StringIO()))
    assert [s["stage"] for s in result["stages"]] == ["float", "binary"]
    assert [s["steps"] for s in result["stages"]] == [2, 2]
    plan = load_file(tmp_path / "stages" / "2-binary" / "model.ckpt")["plan"]
    assert {e["method"] for e in plan["layers"]} - {None} == {METHODS[name]}
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(v) for e in events for v in e.values() if isinstance(v, float))
    logged = {key.removeprefix("loss/") for e in events if e["stage"] == "binary" for key in e if "loss/" in key}
    assert logged >= {"task", *PUBLISHED[name][4]}
    assert "Detections" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_losses_of_region_proposals_need_a_detector_that_proposes() -> None:
    """Found before the float stage is trained."""
    changes = ["model.name=retinanet_fpn", "model.options=null", *(f"data.{change}" for change in TWO_STEPS)]
    recipe = load_recipe("bidet_fasterrcnn", ["profile=quick", *changes])
    with pytest.raises(
        RecipeError, match="'bidet_rpn_bottleneck' needs 'rpn_features', and this detector has features"
    ):
        preview(recipe)

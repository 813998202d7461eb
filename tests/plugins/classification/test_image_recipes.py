"""Every shipped image recipe: its settings, and two steps of each of its stages on a few generated images."""

from __future__ import annotations

import io
import json
import math

import pytest
from recipe_comments import bare_keys
from rich.console import Console

from bnnapps.methods import get_method
from bnnapps.plugins.classification.config import ImageData, ImageModel
from bnnapps.recipe.load import as_recipe, dump_recipe, load_recipe, shipped_recipes
from bnnapps.recipe.reader import read_yaml
from bnnapps.recipe.schema import BinarizeConfig, OptimizerConfig, ScheduleConfig, Training
from bnnapps.training.checkpoint import load_file
from bnnapps.training.runner import preview, run_recipe
from bnnapps.training.stages import check_stages

CIFAR_METHODS = "adabin bireal bnn bop dorefa fda float irnet reactnet real2binary recu xnor xnorpp"
IMAGENET_METHODS = "adabin bireal bop dorefa irnet reactnet reactnet_a real2binary recu xnor xnorpp"
CIFAR = tuple(f"{m}_cifar10" for m in CIFAR_METHODS.split())
IMAGENET = tuple(f"{m}_imagenet" for m in IMAGENET_METHODS.split())
RECIPES = tuple(sorted(CIFAR + IMAGENET))

# Optimizer, learning rate, weight decay, epochs, batch size, schedule: as the papers or their code have them.
PUBLISHED = {
    "bnn_cifar10": ("adam", 1e-3, 0.0, 500, 50, "exponential"),
    "irnet_cifar10": ("sgd", 0.1, 1e-4, 400, 128, "cosine"),
    "recu_cifar10": ("sgd", 0.1, 5e-4, 600, 256, "cosine"),
    "adabin_cifar10": ("sgd", 0.1, 1e-4, 400, 128, "cosine"),
    "bop_cifar10": ("adam", 1e-2, 0.0, 500, 50, "constant"),
    "bireal_imagenet": ("adam", 1e-3, 0.0, 256, 512, "linear"),
    "reactnet_a_imagenet": ("adam", 1.25e-3, 0.0, 128, 256, "linear"),
    "reactnet_imagenet": ("adam", 2.5e-3, 0.0, 128, 512, "linear"),
    "real2binary_imagenet": ("adam", 1e-3, 0.0, 75, 256, "step"),
    "adabin_imagenet": ("sgd", 0.1, 1e-5, 120, 256, "cosine"),
    "recu_imagenet": ("sgd", 0.1, 1e-4, 200, 512, "cosine"),
    "xnorpp_imagenet": ("adam", 1e-3, 1e-5, 80, 256, "step"),
    "dorefa_imagenet": ("adam", 2e-4, 0.0, 90, 256, "step"),
    "xnor_imagenet": ("adam", 1e-3, 0.0, 55, 800, "step"),
    "bop_imagenet": ("adam", 2.5e-3, 0.0, 300, 1024, "linear"),
}


def profiles_of(name: str) -> list[str]:
    return list(read_yaml(shipped_recipes()[name].read_text(encoding="utf-8"))["profiles"])


def test_these_image_recipes_are_shipped():
    assert tuple(n for n in shipped_recipes() if n.endswith(("_cifar10", "_imagenet"))) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_every_profile_loads_and_reads_back_equal(name):
    for profile in [None, *profiles_of(name)]:
        recipe = load_recipe(name, [] if profile is None else [f"profile={profile}"])
        check_stages(recipe.train.resolved())
        assert as_recipe(read_yaml(dump_recipe(recipe)), "again") == recipe
    assert profiles_of(name)[0] == ("minute" if name in CIFAR else "textures")


@pytest.mark.parametrize("name", RECIPES)
def test_every_key_has_a_comment(name):
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert bare_keys(text) == []
    assert max(map(len, text.splitlines())) <= 130


@pytest.mark.parametrize("name", RECIPES)
def test_every_key_that_a_recipe_may_have_stands_in_it(name):
    values = read_yaml(shipped_recipes()[name].read_text(encoding="utf-8"))
    recipe = load_recipe(name)
    assert values.keys() == type(recipe).model_fields.keys()
    assert values["data"].keys() == ImageData.model_fields.keys()
    assert values["model"].keys() == ImageModel.model_fields.keys()
    if values["binarize"] is not None:
        assert values["binarize"].keys() == BinarizeConfig.model_fields.keys()
    assert values["train"].keys() == {*Training.model_fields, "stages"}
    assert values["train"]["optimizer"].keys() == OptimizerConfig.model_fields.keys()
    assert values["train"]["schedule"].keys() == ScheduleConfig.model_fields.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_settings_are_the_published_ones(name):
    recipe = load_recipe(name)
    train = recipe.train
    batch = recipe.data.batch_size * recipe.trainer.get("accumulate_grad_batches", 1)
    found = (train.optimizer.name, train.lr, train.optimizer.weight_decay, train.epochs, batch, train.schedule.name)
    assert found == PUBLISHED[name]


def test_irnet_on_imagenet_counts_steps():
    recipe = load_recipe("irnet_imagenet")
    schedule = recipe.train.schedule
    assert (recipe.train.steps, recipe.train.epochs) == (62500, None)
    assert [m * 62500 for m in schedule.milestones] == [18750, 37500, 56250]
    assert schedule.warmup * 62500 == 2500
    assert recipe.data.batch_size * recipe.trainer["accumulate_grad_batches"] == 32 * 64


def test_reactnet_learns_from_its_teacher_alone_in_two_steps():
    one, two = load_recipe("reactnet_a_imagenet").train.resolved()
    for stage in (one, two):
        assert [(loss.name, loss.options) for loss in stage.losses] == [("soft_cross_entropy", {"reduction": "batch"})]
        assert stage.teacher == {"torchvision": "resnet34", "pretrained": True}
    assert one.binarize.overrides == {"weight": None}
    assert (one.optimizer.weight_decay, two.optimizer.weight_decay) == (1e-5, 0.0)
    assert (one.init, two.init, two.binarize) == (None, "step1", None)


@pytest.mark.parametrize("name", ["real2binary_cifar10", "real2binary_imagenet"])
def test_real_to_binary_hands_its_student_on(name):
    stages = load_recipe(name).train.resolved()
    assert [(s.name, s.teacher, s.init) for s in stages] == [
        ("teacher", None, None),
        ("real", "teacher", None),
        ("binary_activations", "real", "real"),
        ("binary", "binary_activations", "binary_activations"),
    ]
    weights = [{loss.name: loss.weight for loss in s.losses} for s in stages]
    assert weights[1] == weights[2] == {"task": 1.0, "soft_cross_entropy": 3.0, "attention_map": 30.0}
    assert weights[3] == {"task": 1.0, "soft_cross_entropy": 0.8}
    assert [s.lr for s in stages[1:]] == [1e-3, 1e-3, 2e-4]


SMALL_DATA = "data={source: textures, root: null, size: 16, train_size: 24, dev_size: 10, batch_size: 12, workers: 0}"


def two_steps(name: str, *more: str):
    profile = ["profile=textures"] if name in IMAGENET else []
    stages = [s.name for s in load_recipe(name, profile).train.stages if s.epochs is not None]
    lengths = ["train.epochs=null", "train.steps=2", *(f"train.stages.{s}.epochs=null" for s in stages)]
    data = [SMALL_DATA, "data.augment=flip_crop", "data.lighting=0", "export.dialects=[]"]
    return load_recipe(name, [*profile, *data, *lengths, *more])


def expected_methods(name: str) -> list[set[str]]:
    method = name.rsplit("_", 1)[0].removesuffix("_a")
    stages = load_recipe(name).train.stages
    return [set() if s.binarize is False or method == "float" else {method} for s in stages] or (
        [set()] if method == "float" else [{method}]
    )


@pytest.mark.parametrize("name", RECIPES)
def test_the_networks_of_a_recipe_can_be_planned(name):
    recipe = two_steps(name)
    _, found = preview(recipe)
    for (_, plan), methods in zip(found.stages, expected_methods(name), strict=True):
        assert ({e.method for e in plan.binarized} if plan is not None else set()) == methods
        if plan is not None:
            kinds = [e.type for e in plan.binarized]
            assert kinds.count("conv2d") >= 16
            blocks = "block" in get_method(next(iter(methods))).layers and recipe.model.name.startswith("resnet")
            assert ("residual_block" in kinds) == blocks


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_to_its_end(name, tmp_path):
    recipe = two_steps(name, "model={name: digits_resnet}", "model.options={}", "model.options.width=4")
    result = run_recipe(recipe, tmp_path, Console(file=io.StringIO()))
    stages = recipe.train.resolved()
    assert [s["stage"] for s in result["stages"]] == [s.name for s in stages]
    assert [s["steps"] for s in result["stages"]] == [2] * len(stages)
    assert all(0 <= s["metrics"]["accuracy"] <= 1 for s in result["stages"])
    for i, (stage, methods) in enumerate(zip(stages, expected_methods(name), strict=True), 1):
        plan = load_file(tmp_path / "stages" / f"{i}-{stage.name}" / "model.ckpt")["plan"]
        used = {e["method"] for e in plan["layers"]} - {None} if plan is not None else set()
        assert used == methods
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {e["stage"] for e in events} == {s.name for s in stages}
    assert all(math.isfinite(v) for e in events for v in e.values() if isinstance(v, float))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Wrongly classified images" in page
    assert "Confusion matrix" in page
    assert "generated" in page

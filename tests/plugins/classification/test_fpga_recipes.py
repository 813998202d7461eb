"""The recipes of networks for FPGAs: their settings, and two steps that end in a packed file."""

from __future__ import annotations

import io

import pytest
from recipe_comments import bare_keys
from rich.console import Console

from bnnapps.errors import UsageError
from bnnapps.export.fpga.parallel.source import agreement
from bnnapps.export.fpga.source import open_any
from bnnapps.plugins.classification.config import ImageData, ImageModel
from bnnapps.recipe.load import as_recipe, dump_recipe, load_recipe, shipped_recipes
from bnnapps.recipe.reader import read_yaml
from bnnapps.recipe.schema import BinarizeConfig, OptimizerConfig, ScheduleConfig, Training
from bnnapps.training.runner import preview, run_recipe

RECIPES = ("fpga_cnv", "fpga_tfc_mnist", "lut_mnist")


@pytest.mark.parametrize("name", RECIPES)
def test_every_profile_loads_and_every_key_has_a_comment(name):
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    values = read_yaml(text)
    assert bare_keys(text) == []
    assert max(map(len, text.splitlines())) <= 130
    for profile in [None, *values["profiles"]]:
        recipe = load_recipe(name, [] if profile is None else [f"profile={profile}"])
        assert as_recipe(read_yaml(dump_recipe(recipe)), "again") == recipe
    records = {"data": ImageData, "model": ImageModel, "binarize": BinarizeConfig}
    for key, record in records.items():
        assert set(values[key]) == set(record.model_fields), key
    assert set(values["train"]["optimizer"]) == set(OptimizerConfig.model_fields)
    assert set(values["train"]["schedule"]) == set(ScheduleConfig.model_fields)
    assert set(values["train"]) - {"stages"} <= set(Training.model_fields)


@pytest.mark.parametrize(("name", "layers"), [("fpga_cnv", 7), ("fpga_tfc_mnist", 4), ("lut_mnist", 2)])
def test_every_layer_becomes_binary(name, layers):
    ((_, plan),) = preview(load_recipe(name, ["profile=quick", "data.train_size=20", "data.dev_size=8"]))[1].stages
    assert plan is not None
    assert len(plan.binarized) == layers
    assert not plan.kept


def test_two_steps_end_in_a_packed_file(tmp_path):
    changes = ["profile=quick", "train.epochs=null", "train.steps=2", "data.train_size=40", "data.dev_size=20"]
    run_recipe(
        load_recipe("fpga_tfc_mnist", [*changes, "data.batch_size=20"]), tmp_path / "run", Console(file=io.StringIO())
    )
    assert (tmp_path / "run" / "export" / "packed" / "model.onnx").is_file()


def test_two_steps_of_tables_end_in_a_run_that_the_flow_reads(tmp_path):
    changes = ["profile=quick", "train.epochs=null", "train.steps=2", "data.train_size=40", "data.dev_size=20"]
    changes += ["data.batch_size=20", "model.options.hidden=[60, 30]", "model.options.placement=distributive"]
    console = Console(file=io.StringIO())
    run_recipe(load_recipe("lut_mnist", changes), tmp_path / "run", console)
    found = agreement(open_any(tmp_path / "run", None, "auto", console))
    assert (found.vectors, found.classes, found.sums) == (20, 20, 200)
    with pytest.raises(UsageError, match="no folded form"):
        open_any(tmp_path / "run", None, "folded", console)

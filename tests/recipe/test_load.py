from __future__ import annotations

import pytest
import yaml
from pydantic import Field

import bnnapps.plugin
from bnnapps.errors import RecipeError
from bnnapps.plugin import Plugin
from bnnapps.recipe.load import as_recipe, dump_recipe, find_recipe, load_recipe, shipped_recipes
from bnnapps.recipe.reader import read_yaml
from bnnapps.recipe.schema import Recipe
from bnnapps.validation import Record


class PaperData(Record):
    root: str | None = None
    size: int = Field(default=10, ge=1)


class PaperModel(Record):
    width: int = 8


class PaperRecipe(Recipe):
    data: PaperData = PaperData()
    model: PaperModel = PaperModel()


class _Point:
    name = "paper"

    def load(self) -> Plugin:
        return Plugin("paper", "for tests", PaperRecipe, None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def paper_task(monkeypatch):
    monkeypatch.setattr(bnnapps.plugin, "plugin_names", lambda: {"paper": _Point()})


RECIPE = """
task: paper
data: {size: 3}
binarize: {method: bnn}
train:
  epochs: 2
  lr: 1e-4
  stages:
    - {name: teacher, binarize: false}
    - {name: student, teacher: teacher, init: teacher, lr: 2e-4}
profiles:
  quick: {train.epochs: 1, data: {size: 1}}
  wide: {model.width: 64}
"""


def student(recipe):
    stage = next(s for s in recipe.train.stages if s.name == "student")
    return stage.teacher, stage.lr, stage.epochs


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    return file


def test_a_recipe_loads_with_its_defaults(path):
    recipe = load_recipe(path)
    assert isinstance(recipe, PaperRecipe)
    assert (recipe.seed, recipe.data.size, recipe.model.width, recipe.train.lr) == (42, 3, 8, 1e-4)


def test_stages_inherit_what_they_do_not_say(path):
    teacher, student = load_recipe(path).train.resolved()
    assert (teacher.epochs, teacher.lr, teacher.teacher, teacher.binarize) == (2, 1e-4, None, False)
    assert (student.epochs, student.lr, student.teacher, student.init) == (2, 2e-4, "teacher", "teacher")


def test_a_stage_with_steps_has_no_epochs(path):
    recipe = load_recipe(path, ["train.stages.student.steps=7"])
    assert [(s.epochs, s.steps) for s in recipe.train.resolved()] == [(2, None), (None, 7)]


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("train.epochs=5", lambda r: r.train.epochs, 5),
        ("train.lr=3e-5", lambda r: r.train.lr, 3e-5),
        ("data.root=/some/where", lambda r: r.data.root, "/some/where"),
        ("train.stages.1.lr=1", lambda r: r.train.stages[1].lr, 1.0),
        ("train.stages.teacher.lr=1", lambda r: r.train.stages[0].lr, 1.0),
        ("train.optimizer.weight_decay=0.5", lambda r: r.train.optimizer.weight_decay, 0.5),
        ("train.losses=[{name: task, weight: 2}]", lambda r: r.train.losses[0].weight, 2.0),
        ("trainer.precision=bf16-mixed", lambda r: r.trainer, {"precision": "bf16-mixed"}),
        (
            "binarize.rules=[{types: [linear], keep: no}]",
            lambda r: r.binarize.rules,
            [{"types": ["linear"], "keep": False}],
        ),
        ("profile=quick", lambda r: (r.train.epochs, r.data.size, r.profile), (1, 1, "quick")),
        ("profile=quick+wide", lambda r: (r.train.epochs, r.model.width), (1, 64)),
        ("train.stages.student={lr: 1, epochs: 5}", lambda r: student(r), ("teacher", 1.0, 5)),
        ("train.stages={student: {lr: 1}}", lambda r: student(r), ("teacher", 1.0, None)),
        ("train={stages.student.lr: 1}", lambda r: student(r), ("teacher", 1.0, None)),
        ("train.stages.teacher=null", lambda r: [s.name for s in r.train.stages], ["student"]),
        ("train.stages=[]", lambda r: r.train.stages, []),
        ("data={size: 4}", lambda r: r.data.size, 4),
        ("profiles={}", lambda r: r.profiles, {}),
        ("profile=null", lambda r: r.profile, None),
    ],
)
def test_overrides(path, override, read, expected):
    assert read(load_recipe(path, [override])) == expected


def test_an_override_beats_the_profile_wherever_it_stands(path):
    assert load_recipe(path, ["data.size=9", "profile=quick"]).data.size == 9


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("data.sise=1", ["recipe.yaml", "unknown key 'data.sise'", "'size'"]),
        ("data.size=many", ["'data.size'", "'many'", "integer"]),
        ("data.size=0", ["'data.size'", "greater than or equal to 1"]),
        ("train.epoch=1", ["unknown key 'train.epoch'", "'epochs'"]),
        ("train.optimizer.name=adamm", ["'train.optimizer.name'", "'adamm'", "'adam'"]),
        ("train.steps=5", ["exactly one of 'epochs' and 'steps'"]),
        ("train.stages.1.name=teacher", ["two stages are named 'teacher'"]),
        ("train.stages.studnt.lr=1", ["no entry 'studnt'", "'student'"]),
        ("train.stages.1.name=../../x", ["'train.stages.1.name'"]),
        ("profile=quik", ["unknown profile 'quik'", "'quick'"]),
        ("task=papr", ["unknown task 'papr'", "'paper'"]),
        ("task=3", ["'task' is 3"]),
        ("train.lr", ["KEY=VALUE"]),
        ("train.lr={", ["not readable"]),
        ("data.size.deeper=1", ["'data.size.deeper'", "'data.size' is 3", "no key 'deeper'"]),
        ("train.stages.student.lr.x=1", ["'train.stages.student.lr' is 0.0002", "no key 'x'"]),
        ("train.stages.7.lr=1", ["no entry '7'"]),
        ("train.stages={studnt: {lr: 1}}", ["'train.stages.studnt'", "no entry 'studnt'", "'student'"]),
        ("profile=quick+wied", ["unknown profile 'wied'", "'wide'"]),
        ("=3", ["KEY=VALUE"]),
        ("binarize.method=null", ["'method'", "'rules'"]),
        ("export.dialects=[tflite]", ["export.dialects", "'tflite'"]),
    ],
)
def test_what_does_not_fit_is_named(path, override, parts):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, [override])
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_steps_beside_epochs_say_what_to_do(path):
    with pytest.raises(RecipeError, match="null for the other: epochs is 2 and steps is 5"):
        load_recipe(path, ["train.steps=5"])
    assert load_recipe(path, ["train.steps=5", "train.epochs=null"]).train.steps == 5


def test_a_recipe_without_profiles_has_none_to_choose(tmp_path):
    file = tmp_path / "bare.yaml"
    file.write_text("{task: paper, train: {epochs: 1}, profiles: 3}")
    with pytest.raises(RecipeError, match="unknown profile 'fast'"):
        load_recipe(file, ["profile=fast"])
    file.write_text("{task: paper, train: {epochs: 1}, profiles: {fast: }}")
    with pytest.raises(RecipeError, match="the profile 'fast' is None; expected a mapping"):
        load_recipe(file, ["profile=fast"])


def test_a_missing_recipe_names_the_shipped_ones(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no recipe .*bibert_glue"):
        find_recipe(tmp_path / "bibert_gleu")


@pytest.mark.parametrize("text", ["- a list", "a: [1", "!!python/object/apply:os.system ['true']", "\x00"])
def test_what_is_no_mapping_of_plain_data_is_refused(tmp_path, text):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"bad\.yaml"):
        load_recipe(file)


def test_a_resolved_recipe_reads_back_equal(path, tmp_path):
    recipe = load_recipe(path, ["profile=quick", "train.optimizer.groups=[{of: parts, lr_scale: 0.1}]"])
    assert as_recipe(read_yaml(dump_recipe(recipe)), "again") == recipe


@pytest.mark.parametrize("text", ["1e-4", "1E5", "-2.5e-3", "+1e3", ".5", "3.", "1_000.5", ".inf"])
def test_numbers_as_people_write_them(text):
    assert read_yaml(text) == float(text.replace("_", "").replace(".inf", "inf"))


@pytest.mark.parametrize("text", ["1e", "e4", "1e-4x", "v1.0"])
def test_what_only_looks_like_a_number_stays_text(text):
    assert read_yaml(text) == text


def test_a_key_that_stands_twice_is_an_error():
    with pytest.raises(yaml.YAMLError, match="'lr' stands twice"):
        read_yaml("train: {lr: 1, lr: 2}")


def test_shipped_recipes_are_found_by_name():
    assert find_recipe("bibert_glue") == shipped_recipes()["bibert_glue"]

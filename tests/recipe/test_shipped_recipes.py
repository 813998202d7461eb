from __future__ import annotations

import pytest
from recipe_comments import bare_keys

from bnnapps.recipe.load import as_recipe, dump_recipe, load_recipe, shipped_recipes
from bnnapps.recipe.reader import read_yaml
from bnnapps.recipe.schema import BinarizeConfig, OptimizerConfig, ScheduleConfig, Training
from bnnapps.training.stages import check_stages

RECIPES = ("bibert_glue", "binarybert_glue", "bit_glue", "naive_glue")
LENGTHS = dict.fromkeys(("cola", "sst2"), 64) | dict.fromkeys(("mrpc", "qqp", "stsb", "mnli", "qnli", "rte"), 128)

# Learning rate, epochs, batch size: the training scripts published with the papers.
BIBERT = {
    "cola": (1e-4, 50, 16),
    "sst2": (1e-4, 10, 16),
    "mrpc": (2e-4, 20, 16),
    "qqp": (1e-4, 5, 16),
    "stsb": (1e-4, 20, 16),
    "mnli": (5e-5, 5, 16),
    "qnli": (1e-4, 10, 16),
    "rte": (1e-5, 20, 16),
}
BIT = {
    "cola": (5e-4, 50, 16),
    "sst2": (1e-4, 10, 8),
    "mrpc": (5e-4, 20, 8),
    "qqp": (2e-4, 6, 32),
    "stsb": (5e-4, 20, 8),
    "mnli": (2e-4, 6, 16),
    "qnli": (2e-4, 10, 8),
    "rte": (5e-4, 20, 8),
}
PUBLISHED = {"bibert_glue": BIBERT, "naive_glue": BIBERT, "bit_glue": BIT}
NEEDED = {"minilm": ["data.root=glue", "model.path=minilm"], "bert_base": []}


def loaded(name: str, profile: str | None = None):
    overrides = [] if profile is None else [f"profile={profile}"]
    for part, needed in NEEDED.items():
        if profile is not None and part in profile.split("+"):
            overrides += needed
    recipe = load_recipe(name, overrides)
    check_stages(recipe.train.resolved())
    return recipe


def lengths(recipe) -> dict[str, tuple[float, int | None]]:
    return {stage.name: (stage.lr, stage.epochs) for stage in recipe.train.resolved()}


def profiles_of(name: str) -> list[str]:
    return list(read_yaml(shipped_recipes()[name].read_text(encoding="utf-8"))["profiles"])


def test_these_text_recipes_are_shipped():
    assert tuple(name for name in shipped_recipes() if name.endswith("_glue")) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_every_profile_loads_and_reads_back_equal(name):
    for profile in [None, *profiles_of(name)]:
        recipe = loaded(name, profile)
        assert recipe.profile == profile
        assert as_recipe(read_yaml(dump_recipe(recipe)), "again") == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_as_it_stands_needs_no_download(name):
    recipe = loaded(name)
    assert (recipe.data.source, recipe.model.hub, recipe.model.path) == ("miniglue", None, None)
    assert recipe.export.dialects == ["portable"]


@pytest.mark.parametrize("base", ["bert_base", "minilm"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_task_profile_gives_the_published_settings_to_every_binary_stage(name, base):
    teacher = {"bert_base": (2e-5, 3), "minilm": (5e-5, 3)}[base]
    for task, (lr, epochs, batch) in PUBLISHED[name].items():
        recipe = loaded(name, f"{base}+{task}")
        assert (recipe.data.task, recipe.data.max_length, recipe.data.batch_size) == (task, LENGTHS[task], batch)
        found = lengths(recipe)
        assert found.pop("teacher") == teacher
        assert found == dict.fromkeys(found, (lr, epochs))
        assert list(found) == (["w1a2", "w1a1"] if name == "bit_glue" else ["student"])


@pytest.mark.parametrize("profile", ["single_step+minilm+rte", "minilm+single_step+rte", "rte+minilm+single_step"])
def test_one_step_of_bit_goes_with_a_model_and_a_task_in_any_order(profile):
    recipe = loaded("bit_glue", profile)
    assert lengths(recipe) == {"teacher": (5e-5, 3), "w1a1": (5e-4, 20)}
    student = recipe.train.resolved()[1]
    assert (student.teacher, student.init) == ("teacher", "teacher")
    assert [loss.name for loss in student.losses] == ["hidden_mse", "logits"]


def test_every_task_profile_goes_with_one_step_of_bit():
    for task, (lr, epochs, _) in BIT.items():
        assert lengths(loaded("bit_glue", f"single_step+{task}"))["w1a1"] == (lr, epochs)


def test_several_steps_of_bit_hand_the_student_on():
    two, one = loaded("bit_glue").train.resolved()[1:]
    assert (two.teacher, two.init, one.teacher, one.init) == ("teacher", "teacher", "w1a2", "w1a2")
    assert two.binarize == BinarizeConfig(method="bit", overrides={"activation_bits": 2}, keep_last=1)
    assert one.binarize is None


def test_binarybert_has_the_published_rates_and_starts_at_half_the_width():
    recipe = loaded("binarybert_glue", "bert_base")
    assert lengths(recipe) == {
        "teacher": (2e-5, 3),
        "ternary_layers": (2.5e-5, 2),
        "ternary_logits": (1e-5, 2),
        "binary_layers": (1.25e-4, 2),
        "binary_logits": (5e-5, 2),
    }
    stages = recipe.train.resolved()
    assert [s.width for s in stages] == [None, 0.5, None, None, None]
    assert [s.teacher for s in stages] == [None, *["teacher"] * 4]
    assert [s.init for s in stages] == [None, *(s.name for s in stages[:-1])]
    methods = [s.binarize.method if s.binarize else s.binarize for s in stages]
    assert methods == [False, "binarybert_ternary", "binarybert_ternary", None, None]
    assert [[loss.name for loss in s.losses] for s in stages[1:]] == [
        *(["hidden_mse", "attention_score_mse"], ["logits"]),
        *(["hidden_mse", "attention_score_mse"], ["logits"]),
    ]


@pytest.mark.parametrize("profile", ["four_bits", "four_bits+bert_base", "minilm+four_bits"])
def test_binarybert_with_four_bits_changes_every_stage(profile):
    recipe = loaded("binarybert_glue", profile)
    stages = recipe.train.resolved()
    assert recipe.binarize.method == "binarybert_a4"
    assert [s.binarize.method for s in stages[1:3]] == ["binarybert_ternary_a4"] * 2
    assert [s.binarize for s in stages[3:]] == [None, None]


# Comments


@pytest.mark.parametrize("name", RECIPES)
def test_every_key_has_a_comment(name):
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert bare_keys(text) == []
    assert max(map(len, text.splitlines())) <= 130


@pytest.mark.parametrize(
    ("line", "bare"),
    [("seed: 42", 1), ("seed: 42  # of weights", 0), ("  - name: a", 1), ("  - {name: a}", 0), ("# seed: 42", 0)],
)
def test_the_rule_for_comments_can_fail(line, bare):
    assert len(bare_keys(line + "\nprofiles:\n")) == bare


def test_the_rule_for_comments_of_profiles_can_fail():
    assert bare_keys("\nprofiles:\n  fast:\n    train.epochs: 1\n") == ["  fast:"]
    assert bare_keys("\nprofiles:\n  fast:  # few epochs\n    train.epochs: 1\n") == []
    assert bare_keys("\nprofiles:\n  # sizes\n  a: {x: 1}\n  b: {x: 2}\n  c:\n    x: 3\n") == ["  c:"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_key_that_a_recipe_may_have_stands_in_it(name):
    values = read_yaml(shipped_recipes()[name].read_text(encoding="utf-8"))
    recipe = loaded(name)
    for key, kind in (("data", type(recipe.data)), ("model", type(recipe.model)), ("binarize", BinarizeConfig)):
        assert values[key].keys() == kind.model_fields.keys()
    assert values.keys() == type(recipe).model_fields.keys()
    assert values["train"].keys() == {*Training.model_fields, "stages"}
    assert values["train"]["optimizer"].keys() == OptimizerConfig.model_fields.keys()
    assert values["train"]["schedule"].keys() == ScheduleConfig.model_fields.keys()


def test_null_empties_options_so_that_those_of_another_network_can_be_given():
    def options(*overrides):
        return load_recipe("bidet_fasterrcnn", ["profile=quick", *overrides]).model.options

    assert options()["frozen_stem"] is False
    assert options("model.options=null") == {}
    assert options("model.options=null", "model.options.depth=34") == {"depth": 34}
    assert options("model.options={depth: 34}")["frozen_stem"] is False

"""The task and its recipe, on a few generated words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_comments import bare_keys
from rich.console import Console

import bnnapps
from bnnapps.errors import BnnappsError, RecipeError
from bnnapps.losses import LossInputs, Outputs
from bnnapps.plugins.keywords.config import SoundAugment, SoundData
from bnnapps.plugins.keywords.features import FeatureSettings
from bnnapps.plugins.keywords.losses import frequency_independent_loss, high_frequency_loss
from bnnapps.plugins.keywords.recipe import KeywordModel
from bnnapps.plugins.keywords.wavelet import frequency_independent_distance, high_frequency_distance
from bnnapps.recipe.load import as_recipe, dump_recipe, load_recipe, shipped_recipes
from bnnapps.recipe.reader import read_yaml
from bnnapps.training.runner import open_run, run_recipe
from bnnapps.training.stages import check_stages

NAME = "bifsmn_speech_commands"
TINY = [
    "profile=quick",
    "data.train_size=20",
    "data.dev_size=10",
    "data.batch_size=10",
    "train.epochs=null",
    "train.steps=2",
    "train.stages.teacher.epochs=null",
    "export.dialects=[]",
]
SMALL = "model.options={depth: 4, channels: 8, hidden: 8}"


def run(out: Path, *more: str) -> Any:
    console = Console(file=io.StringIO(), width=120)
    return run_recipe(load_recipe(NAME, [*TINY, SMALL, *more]), out, console)


def test_a_run_trains_every_depth_beside_its_teacher(tmp_path: Path) -> None:
    run(tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = {key for row in rows for key in row}
    for option in ("", "_option1", "_option2"):
        assert f"dev/accuracy{option}" in logged
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Clips taken for other words" in page
    assert "Confusion matrix" in page


def test_the_teacher_is_built_as_published_and_the_student_starts_from_it() -> None:
    from bnnapps.plugins.keywords.task import KeywordsTask

    recipe = load_recipe("bifsmnv2_speech_commands", [*TINY, SMALL])
    task = KeywordsTask(recipe)
    task.prepare()
    float_stage, binary_stage = recipe.train.resolved()
    teacher = task.fitted(task.build_model(), float_stage)
    kinds = {type(m).__name__ for m in teacher.modules()}
    assert "PReLU" not in kinds
    assert {m.p for m in teacher.modules() if isinstance(m, torch.nn.Dropout)} == {0.2}
    assert getattr(teacher, "options", None) == 1
    with torch.no_grad():
        for tensor in teacher.parameters():
            tensor.normal_()
    student = task.fitted(teacher, binary_stage)
    assert getattr(student, "options", None) == 3
    theirs, own = teacher.state_dict(), student.state_dict()
    assert all(torch.equal(own[k], t) for k, t in theirs.items())
    for option in (1, 2):
        key = f"layers.3.ends.norms.{option}.weight"
        assert torch.equal(own[key], theirs["layers.3.ends.norms.0.weight"])
    assert (own["layers.0.memory_act.weight"] == 0.25).all()
    again = task.build_from(task.architecture(teacher))
    assert again.state_dict().keys() == theirs.keys()
    assert task.fitted(student, binary_stage) is student
    plain = load_recipe(NAME, [*TINY, SMALL, "model.teacher=null"])
    own_task = KeywordsTask(plain)
    own_task._prepared, own_task._hearing = task._prepared, task._hearing
    model = own_task.build_model()
    assert own_task.fitted(model, float_stage) is model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"teacher": {"classes": 3}}, "'classes' is set by the task"),
        ({"name": "ds_cnn", "teacher": {}}, "teacher is for dfsmn"),
        ({"teacher": {"options": 2}}, "'options' follows from model.thinnable"),
    ],
)
def test_what_a_teacher_cannot_be(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KeywordModel(**model)


def test_shifts_and_slopes_learn_ten_times_as_slowly() -> None:
    from bnnapps.optim.groups import parameter_groups
    from bnnapps.plugins.keywords.dfsmn import DFSMN

    recipe = load_recipe("bifsmnv2_speech_commands")
    network = DFSMN(4, 16, 16, channels=8, hidden=8, depth=2)
    bnnapps.binarize(network, "bifsmnv2")
    stage = recipe.train.resolved()[1]
    groups = parameter_groups(network, stage.optimizer, stage.lr)
    slow = {id(p) for g in groups if g.rate == pytest.approx(0.0005) for p in g.params}
    assert slow == {id(p) for n, p in network.named_parameters() if ".binary." in n}
    assert sorted({g.rate for g in groups}) == pytest.approx([0.0005, 0.005])


def test_the_loss_is_the_weighted_sum_over_depths(tmp_path: Path) -> None:
    from bnnapps.losses import LossHub, LossTerm
    from bnnapps.plugins.keywords.task import KeywordsTask

    recipe = load_recipe(NAME, [*TINY, SMALL, "data.augment.none=true"])
    task = KeywordsTask(recipe)
    task.prepare()
    model, teacher = task.build_model(), task.build_model()
    hub = LossHub([LossTerm("task"), LossTerm("high_frequency", weight=0.01)])
    module = task.make_module(model, recipe.train.resolved()[1], hub, teacher)
    batch = next(iter(task.train_loader()))
    torch.manual_seed(0)
    total, terms = module._loss(batch)
    by_hand = sum(
        w * (terms[f"task{o}"] + 0.01 * terms[f"high_frequency{o}"])
        for w, o in zip((1.0, 0.5, 0.25), ("", "_option1", "_option2"), strict=True)
    )
    torch.testing.assert_close(total, by_hand)
    logits, labels = module.predict(batch)
    assert logits.shape == (10, 3, 10)
    assert labels.shape == (10,)
    assert getattr(model, "option", None) == 0


@pytest.mark.parametrize(
    ("loss", "distance"),
    [(high_frequency_loss, high_frequency_distance), (frequency_independent_loss, frequency_independent_distance)],
)
def test_layers_are_compared_with_those_of_the_same_place(loss: Any, distance: Any) -> None:
    student = [torch.randn(2, 4, 8) for _ in range(2)]
    teacher = [torch.randn(2, 4, 8) for _ in range(8)]
    inputs = LossInputs(Outputs(taps={"layers": student}), Outputs(taps={"layers": teacher}))
    expected = distance(student[0], teacher[3]) + distance(student[1], teacher[7])
    torch.testing.assert_close(loss(inputs), expected)
    wrong = LossInputs(Outputs(taps={"layers": student}), Outputs(taps={"layers": teacher[:3]}))
    with pytest.raises(BnnappsError, match="a teacher of 3 layers for a student of 2"):
        loss(wrong)
    other = LossInputs(Outputs(taps={"layers": student}), Outputs(taps={"layers": [torch.randn(2, 6, 8)] * 2}))
    with pytest.raises(BnnappsError, match=r"maps of \(2, 4, 8\) with the teacher's \(2, 6, 8\)"):
        loss(other)


def test_a_run_is_opened_again(tmp_path: Path) -> None:
    run(tmp_path / "run", "train.stages.binary.losses=[{name: task}]")
    task, model, _ = open_run(tmp_path / "run")
    examples = task.example_inputs()
    assert examples.shape == (4, 1, 32, 32)
    with torch.no_grad():
        assert model.eval()(examples).shape == (4, 10)


@pytest.mark.parametrize("name", ["tc_resnet", "ds_cnn"])
def test_other_networks_learn_from_labels(tmp_path: Path, name: str) -> None:
    model = f"model={{name: {name}, options: {{}}, thinnable: null, teacher: null}}"
    more = ["train.stages.binary.losses=[{name: task}]", "binarize.method=bireal"]
    console = Console(file=io.StringIO(), width=120)
    run_recipe(load_recipe(NAME, [*TINY, model, *more]), tmp_path / "run", console)
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_network_without_memory_layers_cannot_be_distilled_so(tmp_path: Path) -> None:
    model = "model={name: tc_resnet, options: {}, thinnable: null, teacher: null}"
    with pytest.raises(RecipeError, match=r"need model\.name dfsmn or fsmn, and the network is a TCResNet"):
        run_recipe(load_recipe(NAME, [*TINY, model]), tmp_path / "run", Console(file=io.StringIO()))


def test_every_profile_loads_and_every_key_has_a_comment() -> None:
    text = shipped_recipes()[NAME].read_text(encoding="utf-8")
    values = read_yaml(text)
    for profile in [None, *values["profiles"]]:
        recipe = load_recipe(NAME, [] if profile is None else [f"profile={profile}"])
        check_stages(recipe.train.resolved())
        assert as_recipe(read_yaml(dump_recipe(recipe)), "again") == recipe
    assert text.startswith("# ")
    assert bare_keys(text) == []
    assert max(map(len, text.splitlines())) <= 130
    assert values["data"].keys() == SoundData.model_fields.keys()
    assert values["data"]["features"].keys() == FeatureSettings.model_fields.keys()
    assert values["data"]["augment"].keys() == SoundAugment.model_fields.keys()
    assert values["model"].keys() == KeywordModel.model_fields.keys()


def test_the_settings_are_the_published_ones() -> None:
    recipe = load_recipe(NAME)
    train = recipe.train
    assert (train.optimizer.name, train.lr, train.optimizer.weight_decay, train.epochs) == ("sgd", 5e-3, 1e-4, 300)
    assert (train.optimizer.momentum, train.schedule.name) == (0.9, "cosine")
    assert isinstance(recipe.data, SoundData)
    assert isinstance(recipe.model, KeywordModel)
    assert recipe.data.batch_size == 96
    assert recipe.model.thinnable == [1.0, 0.5, 0.25]
    assert {loss.name: loss.weight for loss in train.resolved()[1].losses} == {"task": 1.0, "high_frequency": 0.01}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("data.source=fsdd", r"data\.root: .* is not a folder; give the folder of the recordings"),
        ("model.options={depth: 6}", r"option 2 of a network of 6 layers"),
        ("model.options={widht: 6}", r"model\.name 'dfsmn' with options .*widht"),
        ("data.seconds=0.95", r"pictures of 32x30: bands and frames are halved twice"),
        ("data.features.hop=4096", "sound between windows would be lost"),
    ],
)
def test_a_mistake_is_one_error(tmp_path: Path, given: str, says: str) -> None:
    chosen = [*TINY, given, "data.root=/nowhere"] if given == "data.source=fsdd" else [*TINY, given]
    with pytest.raises(BnnappsError, match=says) as problem:
        run_recipe(load_recipe(NAME, chosen), tmp_path / "run", Console(file=io.StringIO()))
    assert len(str(problem.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()

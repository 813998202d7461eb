from __future__ import annotations

from typing import Any

import pytest
import torch
import toy_task
from torch import nn

import bnnapps
from bnnapps.binarize import plan_of
from bnnapps.errors import RecipeError
from bnnapps.methods import get_method
from bnnapps.recipe.load import as_recipe
from bnnapps.training.checkpoint import load_file, save_model
from bnnapps.training.folder import RunFolder
from bnnapps.training.handover import hand_over, learned_parts
from bnnapps.training.runner import preview, run_recipe
from bnnapps.training.stages import StageModels


class Net(nn.Module):
    """Two convolutions with a shortcut each, as Bi-Real's block has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.conv1, self.conv2 = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.act1, self.act2 = nn.PReLU(8), nn.PReLU(8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.act1(self.norm1(self.conv1(x)) + x)
        x = self.act2(self.norm2(self.conv2(x)) + x)
        return self.head(x.mean(dim=(2, 3)))


class Vectors(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 2))


def network(method: str) -> tuple[nn.Module, torch.Tensor]:
    """A network of the kind that the method was published for, and inputs."""
    if "conv" in get_method(method).layers:
        return Net(), torch.randn(2, 3, 6, 6)
    return Vectors(), torch.randn(2, 6)


def scramble(model: nn.Module) -> None:
    """Give every parameter and statistic a value that nothing starts from."""
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.1)


def moved(first: Any, second: str) -> tuple[dict[str, torch.Tensor], nn.Module]:
    """The state of a network binarized by `first`, and the network of the next stage, binarized by `second`."""
    net, inputs = network(second)
    rules = [[{"types": ["conv2d" if isinstance(net, Net) else "linear"], "use": use}] for use in (first, second)]
    bnnapps.binarize(net, rules[0], example_inputs=inputs)
    net(inputs)
    scramble(net)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    learned = learned_parts(net)
    bnnapps.restore(net)
    bnnapps.binarize(net, rules[1], example_inputs=inputs)
    hand_over(net, learned)
    return before, net


@pytest.mark.parametrize("method", ["reactnet", "bireal", "xnorpp", "real2binary", "adabin", "recu", "bit", "fda"])
def test_activations_first_then_weights(method: str) -> None:
    before, net = moved({"method": method, "weight": None}, method)
    after = net.state_dict()
    assert set(before) <= set(after)
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    new = set(after) - set(before)
    assert all(".binary.weight." in name for name in new), new
    assert all(e.spec.weight is not None for e in plan_of(net).binarized)


@pytest.mark.parametrize("method", ["reactnet", "adabin", "xnorpp", "binarybert", "binarybert_a4"])
def test_a_second_stage_of_the_same_method_starts_where_the_first_ended(method: str) -> None:
    before, net = moved(method, method)
    after = net.state_dict()
    assert before.keys() == after.keys()
    # A split weight's two halves train; the weight that they came from rests, and holds their sum from here on.
    resting = {n.removesuffix(".binary.weight.first") + ".weight" for n in before if n.endswith(".weight.first")}
    for name, value in before.items():
        if name not in resting:
            assert torch.equal(after[name], value), name


def test_what_another_quantizer_learned_starts_anew() -> None:
    before, net = moved({"method": "bit", "activation_bits": 2}, "bit")
    after = net.state_dict()
    for layer in ("1", "3"):
        assert torch.equal(after[f"{layer}.binary.activation.shift"], before[f"{layer}.binary.activation.shift"])
        assert after[f"{layer}.binary.activation.alpha"].item() == 1.0
        assert not bool(after[f"{layer}.binary.activation.calibrated"])


def test_parts_of_other_shapes_or_kinds_are_left_alone() -> None:
    old, new = Net(), Net()
    new.conv1, new.stem = nn.Conv2d(16, 8, 3), nn.Conv2d(3, 16, 3)
    for net in (old, new):
        bnnapps.binarize(net, [{"types": ["conv2d"], "use": "reactnet"}], keep_last=0)
    scramble(old)
    assert hand_over(new, learned_parts(old)) == ["conv2.binary.activation"]
    assert torch.equal(new.conv1.binary.activation.shift, torch.zeros(16))


# In stages of a recipe


def stages(*rows: dict[str, Any]):
    values = {
        "task": "toy",
        "binarize": {"method": "reactnet"},
        "train": {"epochs": 2, "lr": 0.05, "select": "last", "stages": list(rows)},
    }
    return as_recipe(values, "here")


STEP_1 = {"name": "activations", "binarize": {"method": "reactnet", "overrides": {"weight": None}}}
STEP_2 = {"name": "weights", "init": "activations"}


def test_two_steps_as_a_recipe(tmp_path, console):
    recipe = stages(STEP_1, STEP_2)
    run_recipe(recipe, tmp_path / "run", console)
    saved = [load_file(tmp_path / "run" / "stages" / s / "model.ckpt") for s in ("1-activations", "2-weights")]
    specs = [next(e["spec"] for e in d["plan"]["layers"] if e["spec"]) for d in saved]
    assert [s["weight"] is None for s in specs] == [True, False]
    assert [s["activation"]["shift"] for s in specs] == ["channel", "channel"]
    assert saved[0]["state_dict"]["3.binary.activation.shift"].any()

    task, plans = preview(recipe)
    student = StageModels(task, [s for s, _ in plans.stages], RunFolder(tmp_path / "run")).student(plans.stages[1][0])
    start = student.state_dict()
    for name, value in saved[0]["state_dict"].items():
        assert torch.equal(start[name], value), name


def test_the_plan_of_the_first_step_warns_of_real_weights():
    plans = preview(stages(STEP_1, STEP_2))[1]
    first, second = (plan for _, plan in plans.stages)
    assert any("binary activations but real weights" in line for line in first.warnings)
    assert not any("real weights" in line for line in second.warnings)


# Teachers


def student(teacher: Any, loss: str = "soft_cross_entropy"):
    return stages({"name": "student", "teacher": teacher, "losses": [{"name": loss}]})


def test_a_teacher_by_name_is_the_tasks_own(tmp_path, console, monkeypatch):
    asked = []

    def named(self, spec):
        asked.append(spec)
        return self.build_model()

    monkeypatch.setattr(toy_task.ToyTask, "named_teacher", named, raising=False)
    run_recipe(student({"zoo": "big", "pretrained": True}), tmp_path / "run", console)
    assert asked == [{"zoo": "big", "pretrained": True}] * 2  # checked before the training, then used
    report = (tmp_path / "run" / "report.html").read_text()
    assert "zoo big, pretrained" in report


def test_a_task_without_such_teachers_says_so():
    with pytest.raises(RecipeError, match="the task 'toy' knows no teacher by zoo: give the name of an earlier stage"):
        preview(student({"zoo": "big"}))


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (
            nn.Linear(6, 10),
            r"teacher zoo big gives logits of shape \(4, 10\) and the student \(4, 2\), which",
        ),
        (nn.Linear(7, 2), r"teacher zoo big cannot compute on this task's inputs \(mat1 and mat2"),
    ],
)
def test_a_teacher_that_does_not_fit_is_named_before_anything_is_trained(monkeypatch, teacher, message):
    monkeypatch.setattr(toy_task.ToyTask, "named_teacher", lambda self, spec: teacher, raising=False)
    with pytest.raises(RecipeError, match=message) as said:
        preview(student({"zoo": "big"}))
    assert "\n" not in str(said.value)


def test_logits_that_no_loss_compares_may_differ(monkeypatch):
    monkeypatch.setattr(toy_task.ToyTask, "named_teacher", lambda self, spec: nn.Linear(6, 10), raising=False)
    preview(student({"zoo": "big"}, loss="task"))


def test_a_checkpoint_of_other_classes_does_not_fit(tmp_path, monkeypatch):
    original = toy_task.ToyTask.build_from

    def build(self, record):
        model = original(self, record)
        model[5] = nn.Linear(record["hidden"], record.get("classes", 2))
        return model

    monkeypatch.setattr(toy_task.ToyTask, "build_from", build)
    task = preview(stages({"name": "student"}))[0]
    record = {"hidden": 16, "classes": 3}
    save_model(task.build_from(record), tmp_path / "three.ckpt", architecture=record)
    with pytest.raises(RecipeError, match=r"three\.ckpt gives logits of shape \(4, 3\) and the student \(4, 2\)"):
        preview(student(str(tmp_path / "three.ckpt")))

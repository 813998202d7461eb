from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bnnapps.binarize import plan_of
from bnnapps.errors import CheckpointError, RecipeError, UsageError
from bnnapps.recipe.load import as_recipe
from bnnapps.training.checkpoint import load_file
from bnnapps.training.logger import read_metrics
from bnnapps.training.module import BinaryModule
from bnnapps.training.runner import open_run, preview, run_recipe

STAGES = [
    {"name": "teacher", "binarize": False},
    {
        "name": "student",
        "teacher": "teacher",
        "init": "teacher",
        "losses": [{"name": "soft_cross_entropy"}, {"name": "task", "weight": 0.5}],
    },
]


def recipe(**train: Any):
    values = {"epochs": 3, "lr": 0.01, "stages": STAGES} | train
    return as_recipe({"task": "toy", "seed": 3, "binarize": {"method": "irnet"}, "train": values}, "here")


BOP = {"of": "latent", "optimizer": "bop", "gamma": 0.05, "threshold": 1e-5, "schedule": {"name": "linear", "end": 0.1}}
SEVERAL = {"name": "adam", "groups": [{"of": "no_decay", "optimizer": "sgd", "lr": 0.05}, BOP]}
BOP_STAGE = {"name": "student", "binarize": {"method": "bop"}, "optimizer": SEVERAL}


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.ckpt")["state_dict"]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class KilledError(BaseException):
    pass


def killed_at(monkeypatch, step: int) -> None:
    original = BinaryModule.on_train_batch_end
    seen = []

    def end(self, *args):
        original(self, *args)
        seen.append(1)
        if len(seen) == step:
            raise KilledError

    monkeypatch.setattr(BinaryModule, "on_train_batch_end", end)


@pytest.mark.parametrize(
    ("train", "kills"),
    [
        ({}, [24]),
        ({"checkpoint_every": 5}, [3, 36, 59]),
        ({"epochs": None, "steps": 20, "checkpoint_every": 7}, [9, 33]),
        ({"stages": [BOP_STAGE], "checkpoint_every": 5}, [17]),
    ],
)
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path, console, monkeypatch, train, kills):
    run_recipe(recipe(**train), tmp_path / "whole", console)
    for kill in kills:
        folder = tmp_path / f"killed{kill}"
        with monkeypatch.context() as patch:
            killed_at(patch, kill)
            with pytest.raises(KilledError):
                run_recipe(recipe(**train), folder, console)
        run_recipe(recipe(**train), folder, console, resume=True)
        assert equal(state(tmp_path / "whole"), state(folder)), kill


def test_the_global_random_state_has_no_say(tmp_path, console):
    run_recipe(recipe(), tmp_path / "a", console)
    torch.manual_seed(99)
    torch.randn(17)
    run_recipe(recipe(), tmp_path / "b", console)
    assert equal(state(tmp_path / "a"), state(tmp_path / "b"))


def test_a_run_folder_holds_what_it_should(tmp_path, console):
    result = run_recipe(recipe(), tmp_path / "run", console)
    found = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    expected = {
        *("recipe.yaml", "environment.json", "metrics.jsonl", "model.ckpt", "plan.json", "summary.json", "result.json"),
        *("report.html", "assets/toy.json", "stages/1-teacher/model.ckpt", "stages/2-student/model.ckpt"),
        *(
            "stages/2-student/checkpoints/last.ckpt",
            "stages/2-student/checkpoints/best.ckpt",
            "stages/2-student/plan.json",
        ),
    }
    assert expected <= found
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == json.loads(json.dumps(result))
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["seed"] == 3
    assert {"torch", "bnnapps"} <= environment["packages"].keys()
    events = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {"teacher", "student"} == {e["stage"] for e in events}
    assert any("loss/soft_cross_entropy" in e for e in events)
    assert sum("dev/accuracy" in e for e in events if e["stage"] == "student") >= 3


def test_the_student_starts_from_the_teacher_and_is_binary(tmp_path, console):
    run_recipe(recipe(epochs=None, steps=1, lr=1e-12), tmp_path / "run", console)
    teacher = load_file(tmp_path / "run" / "stages" / "1-teacher" / "model.ckpt")
    _, student, _ = open_run(tmp_path / "run")
    assert [e.method for e in plan_of(student).binarized] == ["irnet"]
    assert torch.allclose(student.state_dict()["3.weight"], teacher["state_dict"]["3.weight"])


def test_progress_moves_the_estimator_and_is_saved(tmp_path, console):
    run_recipe(recipe(select="last"), tmp_path / "run", console)
    saved = state(tmp_path / "run")
    steps = 3 * 12
    t = 10 ** (-1 + 2 * (steps - 1) / steps)
    assert saved["3.binary.activation.estimator.t"].item() == pytest.approx(t, rel=1e-5)


def test_each_student_is_the_next_teacher_and_start(tmp_path, console):
    bits = {"rules": [{"types": ["linear"], "use": {"method": "bit", "activation_bits": 2}}]}
    one = {"rules": [{"types": ["linear"], "use": "bit"}]}
    losses = [{"name": "soft_cross_entropy"}]
    stages = [
        {"name": "float", "binarize": False},
        {"name": "w1a2", "binarize": bits, "teacher": "float", "init": "float", "losses": losses},
        {"name": "w1a1", "binarize": one, "teacher": "w1a2", "init": "w1a2", "losses": losses},
    ]
    run_recipe(recipe(stages=stages, epochs=1), tmp_path / "run", console)
    two, final = (load_file(tmp_path / "run" / "stages" / s / "model.ckpt") for s in ("2-w1a2", "3-w1a1"))
    specs = [[e["spec"]["activation"]["bits"] for e in d["plan"]["layers"] if e["spec"]] for d in (two, final)]
    assert specs == [[2], [1]]
    # The learned shift goes over and trains on; the scale starts anew for another number of bits.
    shift = "3.binary.activation.shift"
    assert (two["state_dict"][shift] - final["state_dict"][shift]).abs().max() < 0.2
    assert bool(final["state_dict"]["3.binary.activation.calibrated"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stages": [{"name": "a", "teacher": "b"}, {"name": "b"}]},
            "teacher is 'b'.*nor an earlier stage; the nearest",
        ),
        ({"stages": [{"name": "a", "init": "nowhere.ckpt"}]}, "init is 'nowhere.ckpt'"),
        ({"losses": [{"name": "hidden_mse"}], "stages": []}, "compares with a teacher"),
        ({"losses": [{"name": "taks"}], "stages": []}, "unknown loss 'taks'; the nearest are 'task'"),
    ],
)
def test_what_cannot_work_is_said_before_training(change, message):
    with pytest.raises(UsageError, match=message):
        preview(recipe(**change))


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"max_epoch": 3}, "unknown key 'max_epoch'; the nearest"),
        ({"max_epochs": 3}, "'max_epochs' is set by the run itself"),
        ({"logger": False}, "'logger' is set by the run itself"),
    ],
)
def test_trainer_settings_are_checked(trainer, message):
    values = {"task": "toy", "train": {"epochs": 1}, "trainer": trainer}
    with pytest.raises(RecipeError, match=message):
        preview(as_recipe(values, "here"))


def test_a_folder_with_a_run_is_not_overwritten(tmp_path, console):
    run_recipe(recipe(epochs=1), tmp_path / "run", console)
    before = (tmp_path / "run" / "model.ckpt").read_bytes()
    with pytest.raises(UsageError, match="holds a run already"):
        run_recipe(recipe(epochs=1), tmp_path / "run", console)
    with pytest.raises(UsageError, match="another recipe"):
        run_recipe(recipe(epochs=2), tmp_path / "run", console, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("do not lose me")
    with pytest.raises(UsageError, match="not empty"):
        run_recipe(recipe(epochs=1), tmp_path / "other", console)
    assert (tmp_path / "run" / "model.ckpt").read_bytes() == before


def test_a_teacher_may_come_from_another_run(tmp_path, console):
    run_recipe(recipe(epochs=1), tmp_path / "first", console)
    path = str(tmp_path / "first" / "stages" / "1-teacher" / "model.ckpt")
    stages = [{"name": "student", "teacher": path, "init": path, "losses": [{"name": "soft_cross_entropy"}]}]
    result = run_recipe(recipe(epochs=1, stages=stages), tmp_path / "second", console)
    assert [s["stage"] for s in result["stages"]] == ["student"]


def test_a_damaged_last_checkpoint_stops_a_resume_with_one_line(tmp_path, console, monkeypatch):
    with monkeypatch.context() as patch:
        killed_at(patch, 30)
        with pytest.raises(KilledError):
            run_recipe(recipe(), tmp_path / "run", console)
    last = tmp_path / "run" / "stages" / "1-teacher" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        run_recipe(recipe(), tmp_path / "run", console, resume=True)


def test_an_unfinished_run_is_no_run_to_open(tmp_path, console):
    run_recipe(recipe(epochs=1), tmp_path / "run", console)
    (tmp_path / "run" / "model.ckpt").unlink()
    with pytest.raises(UsageError, match="not finished"):
        open_run(tmp_path / "run")
    with pytest.raises(UsageError, match="no run of bnnapps"):
        open_run(tmp_path)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_bop_and_two_other_optimizers_in_one_run(tmp_path, console, monkeypatch, precision):
    starts, start = [], BinaryModule.on_train_start

    def keep(self):
        starts.append(self.model[3].weight.detach().clone())
        start(self)

    monkeypatch.setattr(BinaryModule, "on_train_start", keep)
    trainer = {"gradient_clip_val": 1.0, "precision": precision, "accelerator": "cpu", "log_every_n_steps": 1}
    values = {"task": "toy", "seed": 3, "trainer": trainer}
    values["train"] = {"epochs": 3, "lr": 0.01, "select": "last", "stages": [BOP_STAGE]}
    run_recipe(as_recipe(values, "here"), tmp_path / "run", console)
    latent = state(tmp_path / "run")["3.weight"]
    assert torch.equal(latent.abs(), starts[0].abs())  # signs flip, magnitudes rest
    events = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert sum(e.get("flips/3", 0.0) for e in events) > 0
    gammas = [e["lr/gamma"] for e in events if "lr/gamma" in e]
    assert max(gammas) <= 0.05
    assert gammas[-1] == pytest.approx(0.005)
    rates = [e["lr"] for e in events if "lr" in e]
    assert rates[-1] == pytest.approx(0.0)
    assert max(rates) == pytest.approx(0.01, rel=0.1)


def test_a_group_that_bop_cannot_train_is_said_in_one_line(tmp_path, console):
    stage = BOP_STAGE | {"binarize": {"method": "irnet"}}
    with pytest.raises(RecipeError, match=r"gives '3\.weight' to bop, which flips signs, but"):
        run_recipe(recipe(stages=[stage]), tmp_path / "run", console)

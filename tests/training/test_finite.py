from __future__ import annotations

from typing import Any

import pytest
import torch
import toy_task
from torch import nn

from bnnapps.errors import DataError, TrainingError
from bnnapps.recipe.load import as_recipe
from bnnapps.training.finite import all_finite, describe_batch, first_not_finite, not_finite_state
from bnnapps.training.runner import run_recipe

NAN, INF = float("nan"), float("inf")


def test_what_is_finite() -> None:
    assert all_finite([])
    assert all_finite([torch.ones(3), torch.zeros(0), torch.ones((), dtype=torch.float64)])
    assert all_finite([torch.full((4,), 3e38)])  # the sum is not, the elements are
    assert not all_finite([torch.ones(2), torch.tensor([1.0, NAN])])
    assert not all_finite([torch.tensor([INF, -INF])])
    assert all_finite([torch.full((3,), 6e4, dtype=torch.float16)])


def test_a_batch_in_words() -> None:
    images = torch.zeros(4, 2, 3)
    assert describe_batch({"images": images, "labels": torch.ones(4).long(), "text": "a"}) is None
    images[2, 1, 0] = NAN
    images[3, 0, 2] = INF
    said = "the input 'x.1' has 2 of 24 elements that are not finite, the first (NaN) in example 2 at [1, 0]"
    assert describe_batch({"x": [torch.ones(4), images]}) == said
    assert describe_batch(torch.tensor([1.0, INF])) == (
        "the input has 1 of 2 elements that are not finite, the first (infinity) in example 1 at []"
    )


class Divides(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"y": [x / 0.0]}


def test_the_first_layer_is_the_innermost_that_ran_first() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), Divides()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))["y"][0]

    model = nn.Sequential(nn.Linear(3, 3), Inner(), nn.Linear(3, 3))
    found = first_not_finite({"student": model, "teacher": None}, lambda: model(torch.ones(1, 3)))
    assert found is not None
    assert found.startswith("the student's layer '1.b' (Divides), whose inputs reach ")
    with torch.no_grad():
        model[0].bias[1] = NAN
    found = first_not_finite({"student": model}, lambda: model(torch.ones(1, 3)))
    assert found == "the student's layer '0' (Linear), whose parameter 'bias' is not finite"
    assert first_not_finite({"student": nn.ReLU()}, lambda: None) is None
    assert not any(m._forward_hooks for m in model.modules())


def test_the_state_of_a_model() -> None:
    model = nn.BatchNorm1d(2)
    assert not_finite_state(model) is None
    model.running_var[0] = INF
    assert not_finite_state(model) == "buffer 'running_var'"


# In a run


def recipe(**more: Any):
    values = {"task": "toy", "binarize": {"method": "bnn"}, "train": {"epochs": 2, "lr": 0.01}}
    return as_recipe(values | more, "here")


def test_nan_in_the_data_is_named_though_a_sign_would_swallow_it(tmp_path, console, monkeypatch):
    original = toy_task.ToyTask.prepare

    def prepare(self) -> None:
        original(self)
        self.rows[17][0][4] = NAN

    monkeypatch.setattr(toy_task.ToyTask, "prepare", prepare)
    with pytest.raises(
        DataError, match=r"step \d+, epoch 0, batch \d+: the input '0' has 1 of 48 elements.*\(NaN\)"
    ) as said:
        run_recipe(recipe(), tmp_path / "run", console)
    assert "\n" not in str(said.value)


class Overflows(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.where(x.abs().max() > 0, 1e38, 1.0) * 1e3


def with_layer(monkeypatch, index: int, layer: nn.Module) -> None:
    original = toy_task.ToyTask.build_from

    def build(self, record):
        model = original(self, record)
        model[index] = layer
        return model

    monkeypatch.setattr(toy_task.ToyTask, "build_from", build)


def test_the_first_layer_is_named(tmp_path, console, monkeypatch):
    with_layer(monkeypatch, 2, Overflows())
    message = (
        r"^stage 'train', step 0, epoch 0, batch 0: the loss is nan; what is not finite first is the student's layer "
        r"'2' \(Overflows\), whose inputs reach \d"
    )
    values = {"task": "toy", "train": {"epochs": 1}}
    with pytest.raises(TrainingError, match=message) as said:
        run_recipe(as_recipe(values, "here"), tmp_path / "run", console)
    assert "\n" not in str(said.value)


def test_a_statistic_that_a_sign_hides_is_found_at_the_end_of_the_epoch(tmp_path, console, monkeypatch):
    class Hides(nn.BatchNorm1d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            super().forward(x * 1e30)
            return torch.ones_like(x)

    with_layer(monkeypatch, 4, Hides(16))
    with pytest.raises(TrainingError, match=r"after epoch 0 the buffer '4\.running_var' of the network is not finite"):
        run_recipe(recipe(), tmp_path / "run", console)

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_task
from rich.console import Console
from torch import nn

import bnnapps
from bnnapps.methods import methods
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.recipe.load import as_recipe
from bnnapps.training.checkpoint import load_file
from bnnapps.training.flips import count_flips, trained_weights, weight_count, weight_signs
from bnnapps.training.logger import read_metrics
from bnnapps.training.module import BinaryModule
from bnnapps.training.runner import run_recipe
from bnnapps.training.saturation import Saturation


def recipe(method: Any, **train: Any):
    binarize = {"rules": [{"match": "3", "use": method}], "keep_first": 0, "keep_last": 0}
    return as_recipe({"task": "toy", "binarize": binarize, "train": {"epochs": 3, "lr": 0.01} | train}, "here")


def binary(method: Any, layer: nn.Module | None = None) -> Any:
    model = nn.Sequential(nn.Linear(5, 9) if layer is None else layer)
    return bnnapps.binarize(model, [{"match": "0", "use": method}], keep_first=0, keep_last=0)


# Signs


@pytest.mark.parametrize("method", ["bnn", "irnet", "binarybert_ternary", "binarybert"])
def test_flips_are_counted_exactly(method: str) -> None:
    layer = binary(method)[0]
    before = weight_signs(layer)
    assert count_flips(before, weight_signs(layer)) == 0
    (weight, *rest) = trained_weights(layer)
    with torch.no_grad():
        weight[0, :3] *= -1
    codes = 1 + len(rest)
    assert weight_count(layer) == 45 * codes
    assert sum(v.numel() for v in before) == codes * 6
    if method == "bnn":
        assert count_flips(before, weight_signs(layer)) == 3
    else:
        assert 1 <= count_flips(before, weight_signs(layer)) <= 9


def test_signs_of_an_attention_are_those_of_its_four_projections() -> None:
    layer = binary("bibert", nn.MultiheadAttention(8, 2))[0]
    before = weight_signs(layer)
    assert len(before) == 4
    assert weight_count(layer) == 4 * 64
    assert trained_weights(layer) == [layer.in_proj_weight, layer.out_proj.weight]
    layer.in_proj_weight.requires_grad_(False)
    assert trained_weights(layer) == [layer.out_proj.weight]


def test_noise_of_the_training_is_no_flip() -> None:
    layer = binary("fda").train()[0]
    assert count_flips(weight_signs(layer), weight_signs(layer)) == 0
    assert all(m.training for m in layer.modules())


# Saturation


def measured(model: nn.Module, x: torch.Tensor) -> Saturation:
    watched = Saturation(model)
    watched.attach()
    model(x)
    watched.remove()
    model(x + 100)
    return watched


def test_saturation_by_hand() -> None:
    model = binary({"method": "reactnet"})
    layer = model[0]
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.weight[:, 0] = 1.5
        layer.binary.activation.shift[1] = 2.0
    x = torch.tensor([[0.5, 0.0, -1.0, 1.25, -3.0], [0.5, -2.5, 0.5, 0.5, 0.5]])
    found = measured(model, x)
    assert found.activations == {"0": 3 / 10}  # the shifted 2.0, 1.25 and -3.0
    assert found.weights == {"0": 9 / 45}
    assert found.all_positive == []
    assert measured(model, x.abs()).all_positive == ["0"]


def test_clipped_weights_count_on_their_bound_and_identity_has_no_window() -> None:
    model = binary("bnn")
    with torch.no_grad():
        model[0].weight.fill_(0.5)
        model[0].weight[0] = -1.0
    assert measured(model, torch.zeros(1, 5)).weights == {"0": 1 / 9}
    assert measured(binary("bop"), torch.zeros(1, 5)).weights == {}


def test_quantizers_with_levels_have_their_own_range() -> None:
    two = {"method": "bit", "activation_bits": 2}
    model = binary(two).train()
    model(torch.randn(4, 5))
    alpha = model[0].binary.activation.alpha.item()
    x = torch.tensor([[1.1, -2.1, 0.5, 0.0, 3.0]]) * alpha  # levels -2 to 1
    assert measured(model, x).activations == {"0": 3 / 5}


@pytest.mark.parametrize("method", [m.name for m in methods() if "linear" in m.layers])
def test_every_method_is_measured(method: str) -> None:
    model = binary(method).train()
    found = measured(model, torch.randn(4, 5))
    layer: BinaryLayer[Any] = model[0]
    assert (list(found.activations) == ["0"]) == (layer.spec.activation is not None)
    assert all(0 <= v <= 1 for v in [*found.activations.values(), *found.weights.values()])


# In a run


def logged(folder: Path) -> list[dict[str, Any]]:
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if "flips/3" in line]
    return [
        {k: v for k, v in line.items() if k.split("/")[0] in ("flips", "saturation", "weights_outside")}
        for line in lines
    ]


def test_every_epoch_is_logged_with_flips_since_the_last(tmp_path, console, monkeypatch):
    signs: list[torch.Tensor] = []
    start, end = BinaryModule.on_train_start, BinaryModule.on_train_epoch_end

    def keep(self: BinaryModule) -> None:
        signs.append(self.model[3].weight.detach().clone() >= 0)

    monkeypatch.setattr(BinaryModule, "on_train_start", lambda self: (keep(self), start(self)))
    monkeypatch.setattr(BinaryModule, "on_train_epoch_end", lambda self: (keep(self), end(self)))
    run_recipe(recipe("bnn", lr=0.05), tmp_path / "run", console)
    found = logged(tmp_path / "run")
    assert len(found) == 3
    assert all(line.keys() == {"flips/3", "saturation/3", "weights_outside/3"} for line in found)
    expected = [float((a != b).float().mean()) for a, b in itertools.pairwise(signs)]
    assert [line["flips/3"] for line in found] == pytest.approx(expected)
    assert max(expected) > 0


def test_it_can_be_turned_off_and_changes_no_weight(tmp_path, console):
    run_recipe(recipe("irnet"), tmp_path / "on", console)
    run_recipe(recipe("irnet", log_layers=False), tmp_path / "off", console)
    assert logged(tmp_path / "off") == []
    on, off = (load_file(tmp_path / r / "model.ckpt")["state_dict"] for r in ("on", "off"))
    assert all(torch.equal(on[k], off[k]) for k in on)


class KilledError(BaseException):
    pass


def test_a_resumed_run_logs_what_an_unbroken_one_logs(tmp_path, console, monkeypatch):
    run_recipe(recipe("bnn", checkpoint_every=5), tmp_path / "whole", console)
    original, seen = BinaryModule.on_train_batch_end, []

    def end(self, *args):
        original(self, *args)
        seen.append(1)
        if len(seen) == 18:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(BinaryModule, "on_train_batch_end", end)
        with pytest.raises(KilledError):
            run_recipe(recipe("bnn", checkpoint_every=5), tmp_path / "cut", console)
    run_recipe(recipe("bnn", checkpoint_every=5), tmp_path / "cut", console, resume=True)
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")


def warnings_of(tmp_path: Path, method: Any, change: Any, monkeypatch: Any, **train: Any) -> list[str]:
    original = toy_task.ToyTask.build_from

    def build(self, record):
        model = original(self, record)
        change(model)
        return model

    monkeypatch.setattr(toy_task.ToyTask, "build_from", build)
    file = io.StringIO()
    run_recipe(recipe(method, **train), tmp_path / "run", Console(file=file, width=400))
    return [line for line in file.getvalue().splitlines() if line.startswith("Warning:")]


def zero_behind(model: nn.Sequential) -> None:
    model[4].weight.data.zero_()
    model[4].weight.requires_grad_(False)


def large(model: nn.Sequential) -> None:
    model[3].weight.data.mul_(1e4)


def positive(model: nn.Sequential) -> None:
    model[2] = nn.ReLU()
    model[3].weight.data.mul_(1e4)


def fine(model: nn.Sequential) -> None:
    return None


def frozen(model: nn.Sequential) -> None:
    zero_behind(model)
    model[3].requires_grad_(False)


LOOSE = {"method": "xnor", "weight": {"constraint": "none", "estimator": "clip"}}


@pytest.mark.parametrize(
    ("method", "change", "train", "expected"),
    [
        ("bnn", zero_behind, {}, "epoch 1, and its gradient is zero: check that its output reaches the loss"),
        (LOOSE, large, {}, "outside the window of their estimator 'clip', where the gradient is zero: set"),
        ("bop", positive, {"lr": 1e-9}, "every sign of its input is \\+1"),
    ],
)
def test_weights_that_starve_are_named_once(tmp_path, monkeypatch, method, change, train, expected):
    found = warnings_of(tmp_path, method, change, monkeypatch, **train)
    assert len(found) == 1
    assert re.search(expected, found[0]), found[0]
    assert "layer '3': no weight changed its sign" in found[0]


@pytest.mark.parametrize("change", [fine, frozen])
def test_no_warning_without_need(tmp_path, monkeypatch, change):
    assert warnings_of(tmp_path, "bnn", change, monkeypatch, lr=0.05) == []

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import build

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.errors import BinarizeError
from bnnapps.nn import BinaryLayer, BinaryLinear

ALL = {"rules": [{"types": ["linear"], "use": "bnn"}], "keep_first": 0, "keep_last": 0}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.inner = nn.ModuleDict({"decoder": self.encoder})

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner["decoder"](self.encoder(x))
        return result


def test_shared_modules_convert_once_and_stay_shared() -> None:
    model = Tied()
    plan = bnnapps.plan(model, ALL)
    (entry,) = plan.entries
    assert entry.names == ("encoder", "inner.decoder")
    bnnapps.apply_plan(model, plan)
    assert model.inner["decoder"] is model.encoder
    assert isinstance(model.encoder, BinaryLinear)
    plan.assert_ran(model, torch.randn(2, 4))
    clone = copy.deepcopy(model)
    assert clone.inner["decoder"] is clone.encoder
    bnnapps.restore(model)
    assert model.inner["decoder"] is model.encoder
    assert type(model.encoder) is nn.Linear


@pytest.mark.parametrize("names", [["encoder", "inner.decoder"], ["*coder"], ["re:.*"]])
def test_shared_modules_can_be_named_by_rules_that_agree(names: list[str]) -> None:
    model = Tied()
    rules = [Rule(match=n, types=["linear"], use="bnn") for n in names]
    bnnapps.binarize(model, rules, keep_first=0, keep_last=0)
    assert isinstance(model.encoder, BinaryLinear)


def test_shared_parameters_stay_shared() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[2].weight
    bnnapps.binarize(model, ALL)
    assert model[1].weight is model[2].weight
    model(torch.randn(3, 4)).sum().backward()
    bnnapps.apply_constraints(model)
    assert model[1].weight is bnnapps.restore(model)[2].weight  # type: ignore[index]


def test_a_subclass_becomes_a_twin_of_its_own_and_keeps_its_methods() -> None:
    class Named(nn.Linear):
        def shout(self) -> str:
            return "here"

    layer = Named(4, 4)
    model = nn.Sequential(layer)
    bnnapps.binarize(model, ALL)
    assert isinstance(model[0], Named)
    assert isinstance(model[0], BinaryLinear)
    assert type(model[0]).__name__ == "BinaryNamed"
    assert model[0].shout() == "here"
    assert type(bnnapps.restore(model)[0]) is Named  # type: ignore[index]


def test_flags_hooks_buffers_and_gradients_survive() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    model[0].weight.requires_grad_(False)
    model[2].eval()
    model[2].register_buffer("mine", torch.arange(3.0))
    model[2].note = "kept"
    seen: list[str] = []
    handle = model[2].register_full_backward_hook(lambda *_: seen.append("backward"))
    model[2].weight.register_hook(lambda g: seen.append("weight"))
    model[2].weight.grad = torch.ones(4, 4)
    model(torch.randn(5, 4))
    running = model[1].running_mean.clone()
    bnnapps.binarize(model, ALL)
    assert not model[0].weight.requires_grad
    assert model[0].training
    assert not model[2].training
    assert not model[2].binary.training
    assert torch.equal(model[2].mine, torch.arange(3.0))
    assert model[2].note == "kept"
    assert torch.equal(model[2].weight.grad, torch.ones(4, 4))
    assert torch.equal(model[1].running_mean, running)
    model(torch.randn(5, 4)).sum().backward()
    assert sorted(seen) == ["backward", "weight"]
    bnnapps.restore(model)
    handle.remove()
    assert not model[2]._backward_hooks
    assert torch.equal(model[2].mine, torch.arange(3.0))


def test_parts_follow_the_model_through_train_to_and_apply() -> None:
    model = bnnapps.binarize(
        build("mlp"), {"rules": [{"types": ["linear"], "use": "bit"}], "keep_first": 0, "keep_last": 0}
    )
    model.eval()
    assert not any(m.training for m in model.modules())
    model.double()
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    model.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())


def test_training_after_restoring_keeps_what_was_learned() -> None:
    model = build("mlp")
    bnnapps.binarize(model, ALL)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(5, 6)).square().sum().backward()
    optimizer.step()
    state = copy.deepcopy(model.state_dict())
    bnnapps.restore(model)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


def test_a_trained_split_is_given_back_as_its_sum() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Embedding(5, 4))
    rules = {"rules": [{"types": ["linear", "embedding"], "use": "binarybert"}], "keep_first": 0, "keep_last": 0}
    bnnapps.binarize(model, rules)
    with torch.no_grad():
        for layer in (model[0], model[1]):
            layer.binary.weight.first.add_(0.125)
    sums = [m.binary.weight.first + m.binary.weight.second for m in (model[0], model[1])]
    bnnapps.restore(model)
    assert torch.equal(model[0].weight, sums[0])
    assert torch.equal(model[1].weight, sums[1])


def test_binarizing_again_after_restoring_gives_the_same_model() -> None:
    model, x = build("mlp"), torch.randn(5, 6)
    first = bnnapps.binarize(model, ALL)(x)
    again = bnnapps.binarize(bnnapps.restore(model), ALL)(x)
    assert torch.equal(first, again)


def test_binarizing_under_no_grad_or_inference_leaves_trainable_parts() -> None:
    for method in ("bit", "binarybert"):
        model = build("tokens")
        with torch.no_grad():
            bnnapps.binarize(model, method, keep_last=0)
        assert all(p.requires_grad for p in model.parameters())


def test_plan_of_and_is_binarized() -> None:
    model = build("mlp")
    assert not bnnapps.is_binarized(model)
    plan = bnnapps.plan(model, ALL)
    assert not bnnapps.is_binarized(model)
    bnnapps.apply_plan(model, plan)
    assert bnnapps.is_binarized(model)
    assert bnnapps.plan_of(model) is plan
    assert bnnapps.plan_of(copy.deepcopy(model)) == plan
    assert not bnnapps.is_binarized(model[0])


def test_a_part_of_a_model_can_be_binarized_on_its_own() -> None:
    model = nn.Sequential(build("mlp"), nn.Linear(3, 3))
    bnnapps.binarize(model[0], ALL)
    assert not isinstance(model[1], BinaryLayer)
    with pytest.raises(BinarizeError, match="not binarized"):
        bnnapps.restore(model)
    bnnapps.restore(model[0])
    assert not any(isinstance(m, BinaryLayer) for m in model.modules())


def test_constraints_touch_binary_layers_only() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(5.0)
    bnnapps.binarize(model, [Rule(match="1", use="bnn")])
    bnnapps.apply_constraints(model)
    assert bool((model[0].weight == 5).all())
    assert bool((model[1].weight == 1).all())
    assert bool((model[1].bias == 5).all())


def test_deployed_weights_are_plus_and_minus_one_times_a_scale() -> None:
    model = bnnapps.binarize(build("images"), "xnor", keep_first=0, keep_last=0)
    state: dict[str, Tensor] = model.state_dict()
    for name, value in bnnapps.binary_state_dict(model).items():
        latent = state[name]
        assert torch.equal(value >= 0, latent >= 0)
        torch.testing.assert_close(value.abs().flatten(1)[:, 0], latent.abs().flatten(1).mean(1))


def test_an_error_while_making_parts_changes_no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("mlp")
    plan = bnnapps.plan(model, ALL)
    calls: list[Any] = []

    def make_parts(self: Any, spec: Any) -> Any:
        calls.append(self)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return original(self, spec)

    original = BinaryLinear.make_parts
    monkeypatch.setattr(BinaryLinear, "make_parts", make_parts)
    with pytest.raises(RuntimeError, match="out of memory"):
        bnnapps.apply_plan(model, plan)
    assert not any(isinstance(m, BinaryLayer) for m in model.modules())
    assert not bnnapps.is_binarized(model)

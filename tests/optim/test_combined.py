from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from bnnapps.optim import Bop, CombinedOptimizer


def network() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))


def combined(model: nn.Sequential) -> CombinedOptimizer:
    first = torch.optim.Adam([{"params": [model[0].weight], "lr": 0.01}, {"params": [model[0].bias], "lr": 0.1}])
    second = torch.optim.SGD([model[2].bias], lr=0.1, momentum=0.9)
    return CombinedOptimizer([first, second, Bop([model[2].weight], gamma=0.5, threshold=0.01)])


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def test_it_steps_as_each_optimizer_alone() -> None:
    model, twin = network(), network()
    optimizer = combined(model)
    alone = [
        torch.optim.Adam([{"params": [twin[0].weight], "lr": 0.01}, {"params": [twin[0].bias], "lr": 0.1}]),
        torch.optim.SGD([twin[2].bias], lr=0.1, momentum=0.9),
        Bop([twin[2].weight], gamma=0.5, threshold=0.01),
    ]
    train(model, optimizer, range(6))
    for step in range(6):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        for one in alone:
            one.zero_grad()
        twin(x).square().mean().backward()
        for one in alone:
            one.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_is_set_in_its_groups_reaches_the_optimizers() -> None:
    model = network()
    optimizer = combined(model)
    before = [p.detach().clone() for p in model.parameters()]
    for group in optimizer.param_groups:
        group["lr" if "lr" in group else "gamma"] = 0.0
    train(model, optimizer, range(3))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("how", ["state_dict", "file", "pickle", "deepcopy"])
def test_a_copy_goes_on_as_the_original(how: str) -> None:
    whole, model = network(), network()
    train(whole, combined(whole), range(8))
    optimizer = combined(model)
    optimizer.param_groups[0]["lr"] = 0.01
    train(model, optimizer, range(4))
    if how in ("pickle", "deepcopy"):
        both = (model, optimizer)
        model, optimizer = copy.deepcopy(both) if how == "deepcopy" else pickle.loads(pickle.dumps(both))
    else:
        saved = optimizer.state_dict()
        if how == "file":
            file = io.BytesIO()
            torch.save(saved, file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
        model = copy.deepcopy(model)
        optimizer = combined(model)
        optimizer.load_state_dict(saved)
    train(model, optimizer, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))
    groups = [g for o in optimizer.optimizers for g in o.param_groups]
    assert all(a is b for a, b in zip(groups, optimizer.param_groups, strict=True))
    assert all(o.state is optimizer.state for o in optimizer.optimizers)


def test_a_closure_is_evaluated_once() -> None:
    model = network()
    optimizer = combined(model)
    calls: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(2, 5)).sum()
        loss.backward()
        calls.append(loss)
        return loss

    assert optimizer.step(closure) is calls[0]
    assert len(calls) == 1


def test_a_scaler_of_gradients_and_clipping_see_every_parameter() -> None:
    model = network()
    optimizer = combined(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(model(torch.ones(4, 5)).sum()).backward()
    scaler.unscale_(optimizer)
    expected = torch.autograd.grad(model(torch.ones(4, 5)).sum(), list(model.parameters()))
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    before = [p.detach().clone() for p in model.parameters()]
    scaler.step(optimizer)
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    model[0].weight.grad = torch.full_like(model[0].weight, float("inf"))
    scaler.update()
    scaler.scale(torch.ones(1))
    before = [p.detach().clone() for p in model.parameters()]
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_further_group_is_stepped_and_a_parameter_has_one_owner() -> None:
    model = network()
    optimizer = CombinedOptimizer([torch.optim.SGD([model[0].weight], lr=0.1)])
    optimizer.add_param_group({"params": [model[2].weight], "lr": 0.5})
    before = model[2].weight.detach().clone()
    train(model, optimizer, range(1))
    assert not torch.equal(before, model[2].weight)
    with pytest.raises(ValueError, match="more than one parameter group"):
        CombinedOptimizer([torch.optim.SGD([model[0].weight], lr=0.1), Bop([model[0].weight])])

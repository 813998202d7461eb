from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

import bnnapps
from bnnapps.errors import RecipeError
from bnnapps.optim import Bop, CombinedOptimizer, make_optimizer, parameter_groups, set_rates
from bnnapps.recipe.schema import OptimizerConfig, ScheduleConfig

BOP = {"of": "latent", "optimizer": "bop"}


def network(method: Any = "bnn") -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, groups=2), nn.Conv2d(4, 2, 1))
    return bnnapps.binarize(model, [{"match": "2", "use": method}])


def config(*groups: dict[str, Any], **settings: Any) -> OptimizerConfig:
    return OptimizerConfig.model_validate({"name": "adam", "groups": list(groups)} | settings)


def test_bop_flips_binary_weights_and_adam_trains_the_rest() -> None:
    model = network("bop")
    optimizer = make_optimizer(model, config(BOP | {"gamma": 1.0, "threshold": 0.0}), lr=0.1)
    assert isinstance(optimizer, CombinedOptimizer)
    assert [type(o) for o in optimizer.optimizers] == [torch.optim.Adam, Bop]
    latent = model[2].weight
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    gradient = latent.grad.clone()
    optimizer.step()
    after = dict(model.named_parameters())
    for name in before:
        assert not torch.equal(before[name], after[name]), name
    old = before["2.weight"]
    assert torch.equal(latent, torch.where(old.sign() * gradient > 0, -old, old))
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}
    assert set(optimizer.state[latent]) == {"m"}


def test_every_group_has_its_own_rate_and_schedule() -> None:
    model = network()
    chosen = config(
        {"of": "no_decay", "lr": 0.5, "schedule": {"name": "constant", "warmup": 0.0}},
        {"of": "rest", "optimizer": "sgd", "lr_scale": 0.1},
        BOP | {"gamma": 1e-3, "schedule": {"name": "linear", "warmup": 0.0, "end": 0.01}},
    )
    groups = parameter_groups(model, chosen, 0.2)
    optimizer = make_optimizer(model, chosen, 0.2)
    assert [g.optimizer for g in groups] == ["adam", "sgd", "bop"]
    set_rates(optimizer, groups, 0.75, ScheduleConfig(name="linear", warmup=0.5))
    rates = [g["gamma"] if "gamma" in g else g["lr"] for g in optimizer.param_groups]
    assert rates == pytest.approx([0.5, 0.02 * 0.5, 1e-3 * (0.01 + 0.99 * 0.25)])
    assert "lr" not in optimizer.param_groups[2]


def test_glorot_scales_the_rate_by_each_weights_fans() -> None:
    groups = parameter_groups(network(), config({"of": "latent", "lr_scale": "glorot"}), 0.1)
    latent = next(g for g in groups if g.params[0].shape == (4, 4, 3, 3))
    assert latent.rate == pytest.approx(0.1 / math.sqrt(1.5 / (4 * 9 + 4 * 9)))
    assert sum(len(g.params) for g in groups) == len(list(network().parameters()))


def test_what_parts_learn_is_no_latent_weight_whatever_its_dimensions() -> None:
    model = network({"method": "bnn", "output": {"scale": "gate", "reduction": 2}})
    learned = [p for n, p in model.named_parameters() if ".binary." in n]
    assert any(p.dim() > 1 for p in learned)
    groups = parameter_groups(model, config({"of": "parts", "lr": 0.7}), 0.1)
    assert {id(p) for g in groups if g.rate == 0.7 for p in g.params} == {id(p) for p in learned}
    make_optimizer(model, config(BOP), 0.1)


def test_the_projections_of_an_attention_are_latent_as_a_whole() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2)

    model = bnnapps.binarize(Block(), [{"match": "attention", "use": "bibert"}], keep_first=0, keep_last=0)
    groups = parameter_groups(model, config({"of": "latent", "lr": 0.7}), 0.1)
    latent = {id(p) for g in groups if g.rate == 0.7 for p in g.params}
    assert latent == {id(model.attention.in_proj_weight), id(model.attention.out_proj.weight)}


@pytest.mark.parametrize(
    ("method", "group", "message"),
    [
        ("bnn", {"of": "no_decay", "optimizer": "bop"}, "to bop, which flips signs, but that is no weight"),
        ("irnet", BOP, r"gives '2.weight' to bop"),
        ("bnn", {"of": "parts"}, "takes no parameter of this model"),
        ("bnn", BOP | {"match": "7.*"}, "takes no parameter of this model"),
        ("bnn", {"of": "no_decay", "lr_scale": "glorot"}, "has no fan-in"),
    ],
)
def test_groups_that_do_not_fit_the_model(method: str, group: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_optimizer(network(method), config(group), 0.1)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"optimizer": "bop", "lr": 0.1}, "bop has no learning rate"),
        ({"optimizer": "bop", "lr_scale": 0.1}, "bop has no learning rate"),
        ({"optimizer": "bop", "weight_decay": 0.1}, "bop has no learning rate and no decay"),
        ({"gamma": 0.1}, "belong to a group with 'optimizer: bop'"),
        ({"optimizer": "bop", "gamma": 0.0}, "greater than 0"),
        ({"lr_scale": -1.0}, "must not be negative"),
        ({"lr_scale": "xavier"}, "glorot"),
        ({"optimizer": "lion"}, "bop"),
    ],
)
def test_groups_that_say_what_cannot_be(group: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(group)

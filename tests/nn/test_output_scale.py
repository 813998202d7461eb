from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bnnapps
from bnnapps.errors import BinarizeError
from bnnapps.nn import BinaryConv2d, BinaryLinear, ConvSpec, LinearSpec
from bnnapps.nn.output import OutputScale
from bnnapps.nn.spec import OutputSpec


def conv(spec: OutputSpec, bias: bool = True) -> BinaryConv2d:
    torch.manual_seed(0)
    return BinaryConv2d(4, 6, 3, padding=1, bias=bias, spec=ConvSpec(output=spec))


@pytest.mark.parametrize("scale", ["channel", "position", "channel_position", "rank_one"])
def test_factors_multiply_the_product_before_the_bias(scale: str) -> None:
    size = None if scale == "channel" else (5, 7)
    layer = conv(OutputSpec(scale=scale, size=size))
    plain = copy.deepcopy(layer)
    plain.binary.output = None
    x = torch.randn(2, 4, 5, 7)
    assert torch.allclose(layer(x), plain(x), atol=1e-6)  # all ones at the start
    factors = list(layer.binary.output.factors)
    shapes = {
        "channel": [(6, 1, 1)],
        "position": [(6, 5, 7)],
        "channel_position": [(6, 1, 1), (1, 5, 7)],
        "rank_one": [(6, 1, 1), (1, 5, 1), (1, 1, 7)],
    }
    assert [tuple(f.shape) for f in factors] == shapes[scale]
    gamma = torch.ones(6, 5, 7)
    for factor in factors:
        nn.init.uniform_(factor, 0.5, 2)
        gamma = gamma * factor.detach()
    bias = layer.bias.detach().view(-1, 1, 1)
    assert torch.allclose(layer(x), (plain(x) - bias) * gamma + bias, atol=1e-5)


def test_the_gate_is_computed_from_the_real_input() -> None:
    layer = conv(OutputSpec(scale="gate", reduction=2), bias=False)
    gate = layer.binary.output
    x = torch.randn(3, 4, 5, 5)
    mean = x.mean((2, 3))
    expected = torch.sigmoid(F.linear(F.relu(F.linear(mean, gate.squeeze.weight)), gate.excite.weight))
    plain = copy.deepcopy(layer)
    plain.binary.output = None
    assert torch.allclose(layer(x), plain(x) * expected[:, :, None, None], atol=1e-5)
    assert gate.squeeze.weight.shape == (2, 4)


def test_first_values() -> None:
    w = torch.randn(5, 2, 3, 3)
    mean_abs = OutputScale(OutputSpec(initial="mean_abs"), w, 2, 2).factors[0]
    assert torch.allclose(mean_abs.flatten(), w.abs().mean((1, 2, 3)))
    uniform = OutputScale(OutputSpec(initial="uniform"), w, 2, 2).factors[0]
    assert 0 <= float(uniform.min()) < float(uniform.max()) < 1


def test_a_linear_layer_has_one_factor_a_feature() -> None:
    layer = BinaryLinear(4, 3, spec=LinearSpec(output=OutputSpec(scale="rank_one")))
    assert [tuple(f.shape) for f in layer.binary.output.factors] == [(3,)]
    layer.binary.output.factors[0].data.fill_(2.0)
    x = torch.randn(5, 4)
    plain = copy.deepcopy(layer)
    plain.binary.output = None
    assert torch.allclose(layer(x), 2 * (plain(x) - layer.bias) + layer.bias, atol=1e-6)


def test_every_factor_learns() -> None:
    for spec in (OutputSpec(scale="rank_one", size=(5, 5)), OutputSpec(scale="gate")):
        layer = conv(spec)
        layer(torch.randn(2, 4, 5, 5)).square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in layer.binary.output.parameters())


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4 * 9, 2)
    )


def test_positions_are_seen_on_the_example_inputs() -> None:
    model, x = network(), torch.randn(1, 3, 9, 9)
    the_plan = bnnapps.plan(model, "xnorpp", example_inputs=x)
    assert {e.name: e.spec.output.size for e in the_plan.binarized} == {"1": (3, 3), "2": (3, 3)}
    bnnapps.binarize(model, "xnorpp", example_inputs=x)
    the_plan.assert_ran(model, x)
    with pytest.raises(ValueError, match=r"was made for an output of \(3, 3\), this one is \(5, 5\)"):
        model[:3](torch.randn(1, 3, 13, 13))


def test_without_example_inputs_the_error_names_the_ways_out() -> None:
    with pytest.raises(BinarizeError, match=r"'1': output.scale has a number for each position.*example_inputs"):
        bnnapps.plan(network(), "xnorpp")
    rules = {"method": "xnorpp", "overrides": {"output.scale": "channel"}}
    assert len(bnnapps.plan(network(), rules).binarized) == 2


def test_wrong_number_of_positions_is_refused() -> None:
    with pytest.raises(BinarizeError, match="expected 2 numbers"):
        conv(OutputSpec(scale="position", size=(3,)))

"""Layers whose operands have two free levels (AdaBin)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.methods import get_method
from bnnapps.nn import BinaryConv1d, BinaryConv2d, BinaryConv3d, BinaryLinear, ConvSpec, LinearSpec, WeightSpec
from bnnapps.nn import functional as BF
from bnnapps.nn.spec import ActivationSpec

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
LAYERS = {1: BinaryConv1d, 2: BinaryConv2d, 3: BinaryConv3d}
AFFINE = ActivationSpec(scale="affine", estimator="polynomial")


def levels_of(w: Tensor) -> Tensor:
    dims = tuple(range(1, w.dim()))
    mean, half = w.mean(dims, keepdim=True), w.std(dims, keepdim=True, correction=0)
    return torch.where(w >= mean, mean + half, mean - half)


def activation_levels(layer: Any, x: Tensor) -> Tensor:
    a, b = layer.binary.activation.alpha.detach(), layer.binary.activation.beta.detach()
    return torch.where(x >= b, b + a, b - a)


def set_levels(layer: Any) -> None:
    layer.binary.activation.alpha.data.fill_(0.7)
    layer.binary.activation.beta.data.fill_(-0.3)


@pytest.mark.parametrize(
    ("dims", "options", "pad_value"),
    [
        (1, {"padding": 2, "dilation": 2}, 0),
        (2, {"padding": 1, "stride": 2}, 0),
        (2, {"padding": 1, "groups": 2}, 1),
        (2, {"padding": (1, 2), "groups": 4}, -1),
        (2, {"padding": 1, "padding_mode": "circular"}, 0),
        (2, {"padding": "same", "bias": False}, 0),
        (3, {"padding": 1}, 0),
    ],
)
def test_a_convolution_equals_the_float_one_of_its_levels(dims: int, options: Any, pad_value: int) -> None:
    torch.manual_seed(0)
    spec = ConvSpec(weight=WeightSpec(scale="affine", estimator="ede"), activation=AFFINE, pad_value=pad_value)
    layer = LAYERS[dims](4, 8, 3, **options, spec=spec).double()
    set_levels(layer)
    x = torch.randn(2, 4, *[6] * dims, dtype=torch.float64)
    values = activation_levels(layer, x)
    border = layer._reversed_padding_repeated_twice
    a, b = float(layer.binary.activation.alpha.detach()), float(layer.binary.activation.beta.detach())
    if layer.padding_mode != "zeros":
        values = F.pad(values, border, mode=layer.padding_mode)
    else:
        values = F.pad(values, border, value=0.0 if pad_value == 0 else b + a * pad_value)
    expected = CONVOLVE[dims](
        values, levels_of(layer.weight.detach()), layer.bias, layer.stride, 0, layer.dilation, layer.groups
    )
    assert torch.allclose(layer(x), expected, atol=1e-10)
    assert torch.allclose(layer(x[0]), expected[0], atol=1e-10)


def test_a_linear_layer_equals_the_float_one_of_its_levels() -> None:
    layer = BinaryLinear(6, 5, spec=LinearSpec(weight=WeightSpec(scale="affine"), activation=AFFINE)).double()
    set_levels(layer)
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    expected = F.linear(activation_levels(layer, x), levels_of(layer.weight.detach()), layer.bias)
    assert torch.allclose(layer(x), expected, atol=1e-12)
    assert torch.allclose(layer.binary_tensors()["weight"], levels_of(layer.weight.detach()))


@pytest.mark.parametrize("only", ["weight", "activation"])
def test_one_affine_operand_beside_a_plain_one(only: str) -> None:
    weight = WeightSpec(scale="affine") if only == "weight" else WeightSpec()
    activation = AFFINE if only == "activation" else ActivationSpec()
    layer = BinaryConv2d(3, 4, 3, spec=ConvSpec(weight=weight, activation=activation)).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    w = layer.weight.detach()
    alpha = w.abs().mean((1, 2, 3), keepdim=True)
    left = activation_levels(layer, x) if only == "activation" else BF.sign(x)
    right = levels_of(w) if only == "weight" else BF.sign(w) * alpha
    assert torch.allclose(layer(x), F.conv2d(left, right, layer.bias), atol=1e-10)


def test_gradients_are_those_of_the_formulas() -> None:
    torch.manual_seed(1)
    layer = BinaryConv2d(3, 4, 3, bias=False, spec=get_method("adabin").layers["conv"]).double()
    set_levels(layer)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    layer(x).square().sum().backward()
    found = [p.grad.clone() for p in (x, layer.weight, layer.binary.activation.alpha, layer.binary.activation.beta)]

    w = layer.weight.detach().clone().requires_grad_()
    a, b = (t.detach().clone().requires_grad_() for t in (layer.binary.activation.alpha, layer.binary.activation.beta))
    z = x.detach().clone().requires_grad_()
    mean = w.mean((1, 2, 3), keepdim=True)
    half = ((w - mean) ** 2).mean((1, 2, 3), keepdim=True).sqrt()
    ede = layer.binary.weight.estimator
    weight = half * BF.sign_ede((w - mean) / half, ede.k, ede.t) + mean
    value = a * BF.sign_polynomial((z - b) / a) + b
    F.conv2d(value, weight).square().sum().backward()
    for mine, theirs in zip(found, (z.grad, w.grad, a.grad, b.grad), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-8)


def test_a_constant_filter_has_a_finite_gradient() -> None:
    layer = BinaryLinear(4, 2, spec=LinearSpec(weight=WeightSpec(scale="affine"), activation=AFFINE))
    torch.nn.init.constant_(layer.weight, 0.25)
    layer(torch.randn(3, 4)).sum().backward()
    assert torch.isfinite(layer.weight.grad).all()

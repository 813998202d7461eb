"""Units of one convolution that a rule puts together anew, against the same computation written out."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnnapps
from bnnapps.nn import BlockSpec
from bnnapps.nn.blocks import ConvUnit
from bnnapps.nn.layers.base import parts_of_twin, to_binary, to_float
from bnnapps.nn.layers.conv_unit import BinaryConvUnit

UNITS: dict[str, dict[str, Any]] = {
    "same": {"in_channels": 4, "channels": 4},
    "widening": {"in_channels": 4, "channels": 6},
    "strided": {"in_channels": 4, "channels": 6, "stride": 2},
    "strided, as wide": {"in_channels": 4, "channels": 4, "stride": 2},
    "dilated": {"in_channels": 4, "channels": 4, "dilation": 2},
    "1x1": {"in_channels": 4, "channels": 4, "kernel": 1},
    "without padding": {"in_channels": 4, "channels": 4, "padding": 0},
    "without a shortcut": {"in_channels": 4, "channels": 4, "shortcut": False},
}
SPECS = [
    BlockSpec(shortcut=s, norm=n, nonlinearity=f, nonlinearity_at=at, downsample=d)
    for s, n, f, at, d in itertools.product(
        ("block", "conv"),
        ("after", "before"),
        ("keep", "none", "hardtanh"),
        ("before_add", "after_add", "before_norm"),
        ("keep", "avgpool"),
    )
    if not (n == "before" and at == "before_norm")
]


def make(kind: str) -> ConvUnit:
    torch.manual_seed(0)
    unit = ConvUnit(**UNITS[kind])
    for norm in [m for m in unit.modules() if isinstance(m, nn.BatchNorm2d)]:
        randomize(norm)
    return unit


def randomize(norm: Any) -> None:
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)


def rewritten(unit: ConvUnit, spec: BlockSpec) -> BinaryConvUnit:
    to_binary(unit, BinaryConvUnit, spec, parts_of_twin(BinaryConvUnit, unit, spec))
    assert isinstance(unit, BinaryConvUnit)
    return unit


def images(size: int = 7) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 4, size, size)


def bn(norm: Any, x: Tensor) -> Tensor:
    if norm.training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    else:
        mean, var = norm.running_mean, norm.running_var
    v = (1, -1, 1, 1)
    return (x - mean.view(v)) / (var.view(v) + norm.eps).sqrt() * norm.weight.view(v) + norm.bias.view(v)


def written_out(unit: BinaryConvUnit, kind: str, spec: BlockSpec, x: Tensor) -> Tensor:
    options = {"stride": 1, "dilation": 1, "kernel": 3, "shortcut": True} | UNITS[kind]
    padding = options.get("padding", options["dilation"] * (options["kernel"] // 2))

    def f(z: Tensor) -> Tensor:
        return {"keep": z.clamp(min=0), "none": z, "hardtanh": z.clamp(-1, 1)}[spec.nonlinearity]

    z = bn(unit.binary.norm, x) if spec.norm == "before" else x
    z = F.conv2d(z, unit.conv.weight, None, options["stride"], padding, options["dilation"])
    z = f(z) if spec.nonlinearity_at == "before_norm" else z
    z = bn(unit.bn, z) if spec.norm == "after" else z
    z = f(z) if spec.nonlinearity_at == "before_add" else z
    if spec.shortcut == "conv" and options["shortcut"] and padding == options["dilation"] * (options["kernel"] // 2):
        if options["stride"] == 1 and options["in_channels"] == options["channels"]:
            z = z + x
        elif spec.downsample == "avgpool":
            pooled = x
            if options["stride"] == 2:
                pooled = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
            conv, norm = unit.binary.downsample[-2], unit.binary.downsample[-1]
            z = z + bn(norm, F.conv2d(pooled, conv.weight))
    return f(z) if spec.nonlinearity_at == "after_add" else z


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", UNITS)
def test_every_record_computes_what_it_says(kind: str, training: bool) -> None:
    for spec in SPECS:
        unit = rewritten(make(kind), spec)
        for norm in [m for m in unit.binary.modules() if isinstance(m, nn.BatchNorm2d)]:
            randomize(norm)
        unit.train(training)
        x = images()
        expected = written_out(unit, kind, spec, x)
        torch.testing.assert_close(unit(x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", UNITS)
def test_the_defaults_leave_the_unit_as_it_is_and_restoring_is_exact(kind: str) -> None:
    unit = make(kind).eval()
    before, state, x = unit(images()), copy.deepcopy(unit.state_dict()), images()
    twin = rewritten(unit, BlockSpec())
    assert torch.equal(twin(x), before)
    to_float(twin)
    assert type(unit) is ConvUnit
    rewritten(unit, BlockSpec(shortcut="conv", norm="before", nonlinearity="none", downsample="avgpool"))
    assert not unit.bn.weight.requires_grad
    to_float(unit)  # type: ignore[arg-type]
    assert unit.bn.weight.requires_grad
    assert state.keys() == unit.state_dict().keys()
    assert all(torch.equal(state[k], v) for k, v in unit.state_dict().items())
    assert torch.equal(unit(x), before)


def test_copies_and_pickles_compute_the_same() -> None:
    unit = rewritten(make("strided"), BlockSpec(shortcut="conv", nonlinearity="none", downsample="avgpool")).eval()
    for twin in (copy.deepcopy(unit), pickle.loads(pickle.dumps(unit))):
        assert torch.equal(twin(images()), unit(images()))


@pytest.mark.parametrize("method", ["bnn", "xnor", "bireal", "reactnet", "bidet", "bidet_sc"])
def test_methods_rewrite_units_and_make_the_convolutions_inside_binary(method: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(ConvUnit(3, 8, shortcut=False), ConvUnit(8, 8), ConvUnit(8, 16, stride=2), nn.Conv2d(16, 2, 1))
    x = torch.randn(2, 3, 9, 9)
    bnnapps.binarize(net, method, example_inputs=x)
    plan = bnnapps.plan_of(net)
    assert {e.type: sum(f.type == e.type for f in plan.binarized) for e in plan.binarized} == {
        "conv_unit": 3,
        "conv2d": 2,
    }
    plan.assert_ran(net, x)
    shortcuts = [unit.binary.adds for unit in net[:3]]
    with_shortcuts = method in ("bireal", "reactnet", "bidet_sc")
    assert shortcuts == [False, with_shortcuts, with_shortcuts]
    assert all((unit.binary.norm is not None) == (method in ("xnor", "bidet")) for unit in net[:3])
    net(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.ne(0).any()) for p in net[2].conv.parameters())


def test_no_relu_is_left_before_a_sign() -> None:
    net = nn.Sequential(ConvUnit(3, 8, shortcut=False), ConvUnit(8, 8), nn.Conv2d(8, 2, 1))
    x = torch.randn(2, 3, 9, 9)
    assert not bnnapps.plan(net, "bidet_sc", example_inputs=x).warnings
    signs_alone = [{"types": ["conv2d"], "use": "bidet_sc"}]
    assert any("never negative" in w for w in bnnapps.plan(net, signs_alone, example_inputs=x).warnings)

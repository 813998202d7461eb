from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnnapps
from bnnapps.models import build
from bnnapps.nn import BinaryConv2d, ConvSpec, WeightSpec
from bnnapps.nn import functional as BF
from bnnapps.nn.blocks.lean import AvgPool2d, normalized
from bnnapps.nn.spec import ActivationSpec, OutputSpec
from bnnapps.profile.memory import kept_for_backward


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "options", [{"kernel_size": 2}, {"kernel_size": 2, "ceil_mode": True, "count_include_pad": False}]
)
def test_pooling_has_the_gradient_of_torch_and_keeps_no_values(layout: Any, options: Any) -> None:
    x = torch.randn(2, 3, 7, 5).to(memory_format=layout).requires_grad_()
    pool = AvgPool2d(**options)
    upstream = torch.randn_like(pool(x))
    (found,) = torch.autograd.grad(pool(x), x, upstream)
    (expected,) = torch.autograd.grad(F.avg_pool2d(x, **options), x, upstream)
    assert torch.equal(found, expected)

    def forward() -> Tensor:
        return pool(x * 2).sum()

    assert sum(kept_for_backward(pool, forward).values()) < x.numel() * 4 / 2
    assert torch.equal(pool(x.detach()), F.avg_pool2d(x.detach(), **options))


def test_integers_come_back_bit_for_bit() -> None:
    n = torch.randint(-(2**15) + 1, 2**15, (3, 6, 4, 4)).float()
    scale = torch.rand(6, 1, 1) * 10 ** torch.linspace(-6, 3, 6).view(6, 1, 1)
    y = (n * scale).requires_grad_()
    with BF.keep_integers(y, scale):
        z = y * y  # keeps y
    (found,) = torch.autograd.grad(z.sum(), y)
    assert torch.equal(found, 2 * y.detach())


def conv(**spec: Any) -> BinaryConv2d:
    torch.manual_seed(0)
    return BinaryConv2d(8, 16, 3, padding=1, bias=False, spec=ConvSpec(**spec))


@pytest.mark.parametrize(
    ("spec", "gives"),
    [
        ({}, True),
        ({"weight": WeightSpec(scale="none")}, True),
        ({"weight": WeightSpec(transform="standardize", scale="power_of_two")}, True),
        ({"weight": WeightSpec(scale_over="layer")}, True),
        ({"activation": ActivationSpec(unsigned=True, scale="unit")}, True),
        ({"activation": ActivationSpec(shift="channel")}, True),
        ({"activation": ActivationSpec(scale="input_map")}, False),
        ({"activation": ActivationSpec(scale="affine")}, False),
        ({"activation": ActivationSpec(scale="elastic")}, False),
        ({"activation": ActivationSpec(noise=True)}, False),
        ({"activation": None}, False),
        ({"weight": None}, False),
        ({"weight": WeightSpec(kind="ternary")}, False),
        ({"weight": WeightSpec(noise=True)}, False),
        ({"output": OutputSpec()}, False),
    ],
)
def test_only_products_of_codes_are_kept_as_integers(spec: Any, gives: bool) -> None:
    layer = conv(**spec).train()
    assert layer.gives_integers() is gives
    x = torch.randn(4, 8, 6, 6)
    y = layer(x)
    if gives:
        scale = layer.scale()
        n = y.detach() if scale is None else y.detach() / scale
        assert torch.allclose(n, n.round(), atol=1e-3)
        assert torch.equal(n.round() if scale is None else n.round() * scale, y.detach())
    norm, plain = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
    upstream = torch.randn_like(y)
    parameters = list(layer.parameters())
    found = torch.autograd.grad(normalized(norm, layer, layer(x)), parameters, upstream, allow_unused=True)
    expected = torch.autograd.grad(plain(layer(x)), parameters, upstream, allow_unused=True)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None and theirs is None) or torch.equal(mine, theirs)
    assert torch.equal(norm.running_var, plain.running_var)


def test_biases_and_wide_filters_are_kept_as_floats() -> None:
    assert not BinaryConv2d(8, 4, 3).gives_integers()
    assert not BinaryConv2d(2**13, 1, 2, bias=False).gives_integers()
    assert BinaryConv2d(2**13 - 1, 1, 2, bias=False).gives_integers()


@pytest.mark.parametrize("name", ["bireal18", "resnet18"])
def test_a_network_keeps_less_and_has_the_same_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = bnnapps.binarize(build(name, num_classes=3, stem="cifar"), "bireal").train()
    other, x = copy.deepcopy(net), torch.randn(2, 3, 16, 16)

    def gradients(model: nn.Module) -> tuple[int, list[Tensor]]:
        kept = sum(kept_for_backward(model, lambda: model(x).square().sum()).values())
        model.zero_grad()
        model(x).square().sum().backward()
        return kept, [p.grad for p in model.parameters() if p.grad is not None]

    lean, found = gradients(net)
    for module in ("bnnapps.nn.blocks.bireal", "bnnapps.nn.layers.residual_block"):
        monkeypatch.setattr(f"{module}.normalized", lambda norm, conv, y: norm(y))
    monkeypatch.setattr(AvgPool2d, "forward", nn.AvgPool2d.forward)
    gc.collect()
    plain, expected = gradients(other)
    assert lean < 0.9 * plain
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

from __future__ import annotations

import copy
import importlib.util
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.binarize.registry import type_of
from bnnapps.nn import BinaryLayer

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mmdet") is None, reason="needs the extra mmdet")


def conv_module(**fields: Any) -> nn.Module:
    from mmcv.cnn import ConvModule

    torch.manual_seed(0)
    given: dict[str, Any] = {"kernel_size": 3, "padding": 1, "norm_cfg": {"type": "BN"}} | fields
    made: nn.Module = ConvModule(4, given.pop("out_channels", 4), **given)
    return made


def rewritten(module: nn.Module, **block: Any) -> nn.Module:
    rule = Rule(types=["conv_module", "residual_block"], use={"method": "bireal", **block})
    return bnnapps.binarize(module, {"rules": [rule], "keep_first": 0, "keep_last": 0})


def x(channels: int = 4) -> Tensor:
    torch.manual_seed(3)
    return torch.randn(2, channels, 6, 6)


NONE = {"shortcut": "block", "nonlinearity": "keep", "downsample": "keep"}


@pytest.mark.parametrize("fields", [{}, {"norm_cfg": None}, {"act_cfg": None}, {"kernel_size": 1, "padding": 0}])
def test_a_record_that_changes_nothing_computes_the_same(fields: dict[str, Any]) -> None:
    module = conv_module(**fields)
    twin = rewritten(copy.deepcopy(module), **NONE)
    assert isinstance(twin, BinaryLayer)
    torch.testing.assert_close(twin(x()), module(x()))
    torch.testing.assert_close(twin.eval()(x()), module.eval()(x()))


def test_bireal_adds_the_input_behind_the_norm() -> None:
    module = conv_module().eval()
    plain = module.bn(module.conv(x()))  # type: ignore[operator]
    rewritten(module)
    torch.testing.assert_close(module(x()), plain + x())
    wide = rewritten(conv_module(out_channels=8))
    assert not wide.binary.adds  # type: ignore[union-attr]
    assert wide(x()).shape == (2, 8, 6, 6)


def test_a_norm_before_lets_the_own_one_rest() -> None:
    module = conv_module()
    rewritten(module, norm="before", nonlinearity="none", shortcut="block")
    y = module(x())
    standard = (x() - x().mean((0, 2, 3), keepdim=True)) / (
        x().var((0, 2, 3), keepdim=True, correction=0) + 1e-5
    ).sqrt()
    torch.testing.assert_close(y, nn.functional.conv2d(standard, module.conv.weight, padding=1))  # type: ignore[arg-type,union-attr]
    assert not any(p.requires_grad for p in module.bn.parameters())  # type: ignore[union-attr]
    bnnapps.restore(module)
    assert all(p.requires_grad for p in module.parameters())


def test_arguments_of_a_call_are_followed() -> None:
    module = conv_module().eval()
    expected = module(x(), activate=False), module(x(), norm=False)
    rewritten(module, **NONE)
    torch.testing.assert_close((module(x(), activate=False), module(x(), norm=False)), expected)


def test_copies_pickles_and_the_exact_inverse() -> None:
    module = conv_module()
    kind, state = type(module), copy.deepcopy(module.state_dict())
    rewritten(module, nonlinearity="prelu")
    copies = copy.deepcopy(module), pickle.loads(pickle.dumps(module))
    for other in copies:
        assert torch.equal(other.eval()(x()), module.eval()(x()))
    bnnapps.restore(module)
    assert type(module) is kind
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


@pytest.mark.parametrize(
    "fields",
    [
        {"norm_cfg": None, "act_cfg": None},
        {"order": ("norm", "conv", "act")},
        {"padding_mode": "reflect"},
        {"conv_cfg": {"type": "Conv1d"}, "norm_cfg": None},
    ],
)
def test_modules_that_are_put_together_otherwise_are_no_such_block(fields: dict[str, Any]) -> None:
    assert type_of(conv_module(**fields)) is None


@pytest.mark.parametrize("depth", [18, 50])
def test_blocks_of_mmdets_resnet_compute_the_same_until_a_record_changes_them(depth: int) -> None:
    from mmdet.models.backbones import ResNet

    torch.manual_seed(0)
    net = ResNet(depth, base_channels=8, norm_eval=False, frozen_stages=-1)
    images = torch.randn(2, 3, 32, 32)
    expected = net(images)
    kept = copy.deepcopy(net)
    rewritten(net, **NONE)
    blocks = [m for m in net.modules() if isinstance(m, BinaryLayer)]
    assert len(blocks) == {18: 8, 50: 16}[depth]
    torch.testing.assert_close(net(images), expected)
    rewritten(kept)
    assert not torch.allclose(kept(images)[-1], expected[-1])


def test_blocks_with_more_than_a_block_has_stay() -> None:
    from mmdet.models.backbones import ResNet

    group = ResNet(18, norm_cfg={"type": "GN", "num_groups": 4})
    plugin = {"cfg": {"type": "ContextBlock", "ratio": 1 / 16}, "position": "after_conv3"}
    context = ResNet(50, plugins=[plugin])
    for net in (group, context):
        assert {type_of(m) for m in net.layer1} == {None}

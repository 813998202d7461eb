"""Blocks against their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.nn.blocks import (
    BiRealBlock,
    BlurPool,
    DenseLayer,
    ImprovementLayer,
    PadShortcut,
    QuickBlock,
    QuickTransition,
    ReActBlock,
    Transition,
)


def settled(block: nn.Module) -> Any:
    """In eval mode, with norms that do something."""
    torch.manual_seed(0)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    for name, parameter in block.named_parameters():
        if "act" in name:
            nn.init.uniform_(parameter)
    return block.eval()


def conv_norm(conv: nn.Conv2d, bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """A convolution with the norm folded into its weight, as a deployed network has it."""
    factor = bn.weight / (bn.running_var + bn.eps).sqrt()
    weight = conv.weight * factor.view(-1, 1, 1, 1)
    return F.conv2d(x, weight, bn.bias - factor * bn.running_mean, conv.stride, conv.padding, conv.dilation)


def norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    factor = bn.weight / (bn.running_var + bn.eps).sqrt()
    return x * factor.view(-1, 1, 1) + (bn.bias - factor * bn.running_mean).view(-1, 1, 1)


def rprelu(act: Any, x: Tensor) -> Tensor:
    shifted = x - act.gamma.view(-1, 1, 1)
    return shifted.clamp(min=0) + act.slope.view(-1, 1, 1) * shifted.clamp(max=0) + act.zeta.view(-1, 1, 1)


def close(left: Tensor, right: Tensor) -> None:
    assert left.shape == right.shape
    assert torch.allclose(left, right, atol=1e-5)


def test_bireal() -> None:
    x = torch.randn(2, 4, 6, 6)
    block = settled(BiRealBlock(4, 6, 2))
    branch = conv_norm(block.downsample[1], block.downsample[2], F.avg_pool2d(x, 2))
    y = conv_norm(block.conv1, block.bn1, x) + branch
    close(block(x), conv_norm(block.conv2, block.bn2, y) + y)
    plain = settled(BiRealBlock(4, 4, nonlinearity="rprelu"))
    y = rprelu(plain.act1, conv_norm(plain.conv1, plain.bn1, x) + x)
    close(plain(x), rprelu(plain.act2, conv_norm(plain.conv2, plain.bn2, y) + y))
    assert settled(BiRealBlock(4, 6, 2))(torch.randn(1, 4, 7, 7)).shape == (1, 6, 4, 4)


def test_reactnet() -> None:
    x = torch.randn(2, 4, 6, 6)
    wide = settled(ReActBlock(4, 8, 2))
    y = rprelu(wide.act1, conv_norm(wide.conv3x3, wide.bn1, x) + F.avg_pool2d(x, 2))
    halves = [conv_norm(wide.conv1x1[i], wide.bn2[i], y) + y for i in (0, 1)]
    close(wide(x), rprelu(wide.act2, torch.cat(halves, 1)))
    same = settled(ReActBlock(4, 4))
    y = rprelu(same.act1, conv_norm(same.conv3x3, same.bn1, x) + x)
    close(same(x), rprelu(same.act2, conv_norm(same.conv1x1[0], same.bn2[0], y) + y))
    assert not any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in wide.modules())
    with pytest.raises(UsageError, match="of 4 channels cannot give 12"):
        ReActBlock(4, 12)


def test_dense_and_improvement() -> None:
    x = torch.randn(2, 5, 6, 6)
    dense = settled(DenseLayer(5, 3, dilation=2))
    new = F.conv2d(norm(dense.bn, x), dense.conv.weight, padding=2, dilation=2)
    close(dense(x), torch.cat([x, new], 1))
    better = settled(ImprovementLayer(5, 3))
    expected = x.clone()
    expected[:, 2:] += F.conv2d(norm(better.bn, x), better.conv.weight, padding=1)
    close(better(x), expected)


def test_transition() -> None:
    x = torch.randn(2, 5, 6, 6)
    block = settled(Transition(5, 3))
    close(block(x), F.conv2d(F.max_pool2d(norm(block.bn, x), 2).clamp(min=0), block.conv.weight))
    assert Transition(5, 3, pool=False)(x).shape == (2, 3, 6, 6)


def test_quicknet() -> None:
    x = torch.randn(2, 4, 6, 6)
    block = settled(QuickBlock(4))
    inner = F.conv2d(x, block.conv.weight, padding=1).clamp(min=0)
    close(block(x), x + norm(block.bn, inner))
    step = settled(QuickTransition(4, 6))
    pooled = F.max_pool2d(x.clamp(min=0), 2, 1)
    close(step(x), conv_norm(step.conv, step.bn, BlurPool()(pooled)))
    assert step(x).shape == (2, 6, 3, 3)


def test_blur_averages_with_weights_1_2_1() -> None:
    impulse = torch.zeros(1, 2, 5, 5)
    impulse[0, 1, 2, 2] = 16.0
    assert BlurPool()(impulse)[0, 1].tolist() == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]
    impulse = torch.zeros(1, 1, 5, 5)
    impulse[0, 0, 1, 2] = 16.0
    assert BlurPool()(impulse)[0, 0].tolist() == [[0, 2, 0], [0, 2, 0], [0, 0, 0]]
    blur = BlurPool()
    assert not blur.state_dict()
    assert blur.bfloat16()(impulse.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("channels", "out"), [(2, 4), (3, 6), (2, 2)])
def test_pad_shortcut(channels: int, out: int) -> None:
    x = torch.randn(1, channels, 5, 5)
    y = PadShortcut(channels, out, 2)(x)
    assert y.shape == (1, out, 3, 3)
    front = (out - channels) // 2
    assert torch.equal(y[:, front : front + channels], x[:, :, ::2, ::2])
    assert int(y.count_nonzero()) == channels * 9

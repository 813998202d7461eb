from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bnnapps
from bnnapps.methods import get_method
from bnnapps.nn import BinaryConv2d
from bnnapps.nn.noise import ChannelNoise, NoiseAdaptation


def test_noise_is_a_small_network_plus_a_sine() -> None:
    noise = NoiseAdaptation(128)
    assert noise.first.weight.shape == (2, 128)
    v = torch.randn(3, 128)
    learned = F.linear(F.relu(F.linear(v, noise.first.weight)), noise.second.weight)
    assert torch.allclose(noise(v), 0.1 * (learned + 0.1 * torch.sin(v)), atol=1e-6)
    assert NoiseAdaptation(63).first.weight.shape == (4, 63)


def test_a_map_has_its_noise_at_each_position() -> None:
    noise = ChannelNoise(8, channel_dim=-3)
    x = torch.randn(2, 8, 4, 5)
    found = noise(x)
    assert torch.allclose(found[1, :, 2, 3], noise(x[1:2, :, 2:3, 3:4])[0, :, 0, 0], atol=1e-6)


def test_noise_is_there_in_training_fades_and_is_never_evaluated() -> None:
    layer = BinaryConv2d(4, 6, 3, spec=get_method("fda").layers["conv"])
    x = torch.randn(2, 4, 6, 6)
    w = layer.weight.detach()
    alpha = w.abs().mean((1, 2, 3)).view(-1, 1, 1)
    plain = F.conv2d(torch.where(x >= 0, 1.0, -1.0), torch.where(w >= 0, 1.0, -1.0)) * alpha
    bare = layer.eval()(x) - layer.bias.view(-1, 1, 1)
    assert torch.allclose(bare, plain, atol=1e-5)
    assert not torch.allclose(layer.train()(x), layer.eval()(x), atol=1e-3)
    bnnapps.set_progress(layer, 1.0)
    assert torch.allclose(layer.train()(x), layer.eval()(x), atol=1e-5)


@pytest.mark.parametrize("part", ["weight", "activation"])
def test_noise_parameters_exist_after_construction_and_learn(part: str) -> None:
    layer = BinaryConv2d(70, 6, 3, spec=get_method("fda").layers["conv"])
    names = [n for n, _ in layer.named_parameters() if f"binary.{part}.noise" in n]
    assert len(names) == 2
    layer(torch.randn(2, 70, 5, 5)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        if name in names:
            assert float(parameter.grad.abs().sum()) > 0, name


def test_the_schedule_is_saved() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    bnnapps.binarize(model, "fda")
    bnnapps.set_progress(model, 0.5)
    state = model.state_dict()
    assert float(state["1.binary.activation.noise.amount"]) == pytest.approx(0.05)
    assert int(state["1.binary.weight.estimator.n"]) == 13

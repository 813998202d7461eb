from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bnnapps.errors import UsageError
from bnnapps.optim import Bop


def stepped(weight: list[float], gradients: list[list[float]], **settings: float) -> tuple[nn.Parameter, Bop]:
    parameter = nn.Parameter(torch.tensor(weight))
    optimizer = Bop([parameter], **settings)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter, optimizer


def test_a_weight_flips_when_the_average_has_its_sign_and_is_large() -> None:
    # gamma 0.5: m = 0.5 g. Threshold 0.1.
    weight = [0.3, -0.3, 0.3, -0.3, 0.3, 0.3]
    gradient = [0.4, -0.4, -0.4, 0.4, 0.2, 0.19]
    found, optimizer = stepped(weight, [gradient], gamma=0.5, threshold=0.1)
    assert found.tolist() == pytest.approx([-0.3, 0.3, 0.3, -0.3, 0.3, 0.3])
    assert optimizer.state[found]["m"].tolist() == pytest.approx([g / 2 for g in gradient])
    assert list(optimizer.state[found]) == ["m"]


def test_the_average_is_exponential() -> None:
    found, optimizer = stepped([1.0], [[1.0], [1.0], [-2.0]], gamma=0.25, threshold=10.0)
    m = 0.75 * (0.75 * 0.25 + 0.25) + 0.25 * -2.0
    assert optimizer.state[found]["m"].item() == pytest.approx(m)
    assert found.item() == 1.0


def test_an_average_at_the_threshold_does_not_flip_and_zero_counts_as_plus_one() -> None:
    found, _ = stepped([1.0, 0.0, -0.0, 0.0], [[0.5, 1.0, 1.0, -1.0]], gamma=1.0, threshold=0.5)
    assert found.tolist() == [1.0, -1.0, -1.0, 0.0]


@given(st.integers(0, 10_000), st.floats(1e-3, 1.0), st.floats(0.0, 0.2))
def test_many_steps_equal_the_paper_in_plain_python(seed: int, gamma: float, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(7, generator=generator, dtype=torch.float64)
    gradients = torch.randn(6, 7, generator=generator, dtype=torch.float64)
    parameter = nn.Parameter(weight.clone())
    optimizer = Bop([parameter], gamma, threshold)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    for i in range(7):
        w, m = float(weight[i]), 0.0
        for gradient in gradients[:, i].tolist():
            m = (1 - gamma) * m + gamma * gradient
            sign = 1.0 if w >= 0 else -1.0
            if abs(m) > threshold and (m > 0) == (sign > 0):
                w = -w
        assert float(parameter[i].detach()) == w
    assert torch.equal(parameter.detach().abs(), weight.abs())


def test_a_state_dict_goes_on_as_the_unbroken_training() -> None:
    gradients = torch.randn(8, 5).tolist()
    weight = torch.randn(5).tolist()
    whole, _ = stepped(weight, gradients, gamma=0.3, threshold=0.05)
    half, optimizer = stepped(weight, gradients[:4], gamma=0.3, threshold=0.05)
    saved = copy.deepcopy(optimizer.state_dict())
    again = nn.Parameter(half.detach().clone())
    resumed = Bop([again])
    resumed.load_state_dict(saved)
    assert (resumed.param_groups[0]["gamma"], resumed.param_groups[0]["threshold"]) == (0.3, 0.05)
    for gradient in gradients[4:]:
        again.grad = torch.tensor(gradient)
        resumed.step()
    assert torch.equal(again, whole)


def test_weights_without_a_gradient_and_closures() -> None:
    idle, moved = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = Bop([{"params": [idle]}, {"params": [moved], "gamma": 1.0, "threshold": 0.0}])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = moved.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert idle.tolist() == [1.0, 1.0]
    assert moved.tolist() == [-1.0, -1.0]


def test_a_binary_weight_learns_without_a_learning_rate() -> None:
    torch.manual_seed(1)
    target = torch.where(torch.randn(32) >= 0, 1.0, -1.0)
    weight = nn.Parameter(torch.randn(32))
    size = weight.detach().abs().clone()
    optimizer = Bop([weight], gamma=0.1, threshold=1e-4)
    for _ in range(200):
        x = torch.randn(16, 32)
        codes = weight + (torch.where(weight >= 0, 1.0, -1.0) - weight).detach()
        loss = (x @ codes - x @ target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(torch.sign(weight.detach()), target)
    assert torch.equal(weight.detach().abs(), size)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 0.0}, "gamma is 0.0"),
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"threshold": -1.0}, "threshold is -1.0"),
    ],
)
def test_numbers_out_of_range_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Bop([nn.Parameter(torch.ones(1))], **settings)

from __future__ import annotations

import pytest
import torch

from bnnapps.nn import functional as BF


def test_one_bit_is_the_step_at_one_half() -> None:
    x = torch.tensor([-1.0, 0.0, 0.4999, 0.5, 0.7, 1.0, 9.0], requires_grad=True)
    y = BF.unit_levels(x, 1)
    assert y.tolist() == [0, 0, 0, 1, 1, 1, 1]
    y.backward(torch.full((7,), 2.0))
    assert x.grad.tolist() == [0, 2, 2, 2, 2, 2, 0]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_levels_are_those_of_the_formula(bits: int) -> None:
    levels = 2**bits - 1
    x = torch.linspace(-0.5, 1.5, 401, dtype=torch.float64, requires_grad=True)
    y = BF.unit_levels(x, bits)
    assert set(y.detach().tolist()) == set(range(levels + 1))
    assert float((y.detach() / levels - x.detach().clamp(0, 1)).abs().max()) <= 0.5 / levels + 1e-12
    (y / levels).backward(torch.ones_like(x))
    inside = (x.detach() >= 0) & (x.detach() <= 1)
    assert torch.allclose(x.grad, inside.double())


@pytest.mark.parametrize("bits", [1, 2, 6])
def test_a_rounded_gradient_has_few_levels_and_the_right_mean(bits: int) -> None:
    torch.manual_seed(0)
    grad = torch.tensor([[0.3, -0.7, 1.0], [0.0, 0.02, -0.01]], dtype=torch.float64)
    drawn = BF.quantized_gradient(grad.repeat(20_000, 1), bits).view(20_000, 2, 3)
    largest = grad.abs().amax(1, keepdim=True)
    levels = 2**bits - 1
    steps = (drawn / (2 * largest) + 0.5) * levels
    assert torch.allclose(steps, steps.round(), atol=1e-9)
    assert float(steps.min()) >= -1e-9
    assert float(steps.max()) <= levels + 1e-9
    # Unbiased inside; the very ends are cut, where half of the noise would lead beyond the largest level.
    inside = grad.abs() < largest * (1 - 1 / levels) if bits > 1 else torch.zeros_like(grad, dtype=torch.bool)
    assert torch.allclose(drawn.mean(0)[inside], grad[inside], atol=0.02)


def test_a_sample_without_gradient_stays_zero() -> None:
    grad = torch.zeros(2, 3)
    grad[1] = 1.0
    assert torch.equal(BF.quantized_gradient(grad, 4)[0], torch.zeros(3))


def test_quantize_gradient_is_the_identity_forward() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    y = BF.quantize_gradient(x, 2)
    assert torch.equal(y, x)
    torch.manual_seed(1)
    y.backward(torch.randn(3, 4))
    assert len(set(x.grad[0].tolist())) <= 4
    assert BF.quantize_gradient(x, 32) is x

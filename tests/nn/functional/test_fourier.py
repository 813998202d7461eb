from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnnapps.nn import functional as BF


@given(st.floats(-1, 1), st.integers(0, 30), st.sampled_from([0.1, 0.5, 1.0]))
def test_derivative_is_the_sum_of_cosines(x: float, n: int, omega: float) -> None:
    expected = 4 * omega / math.pi * sum(math.cos((2 * i + 1) * omega * x) for i in range(n + 1))
    found = float(BF.fourier_derivative(torch.tensor(x, dtype=torch.float64), n, omega))
    assert found == pytest.approx(expected, abs=1e-9)


def test_derivative_at_zero_and_outside_the_window() -> None:
    x = torch.tensor([0.0, -0.0, 1.0, 1.0001, -3.0], dtype=torch.float64)
    found = BF.fourier_derivative(x, 9)
    assert found[:2].tolist() == pytest.approx([4 * 0.1 * 10 / math.pi] * 2)
    assert found[2] != 0
    assert found[3:].tolist() == [0, 0]


def test_the_series_integrates_to_the_square_wave() -> None:
    # The derivative of the truncated series; its integral nears the jump of the sign as terms are added.
    x = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    area = np.trapezoid(BF.fourier_derivative(x, 200, omega=1.0).numpy(), x.numpy())
    assert area == pytest.approx(2.0, abs=0.02)


def test_terms_grow_in_whole_steps_from_first_to_last() -> None:
    assert [BF.fourier_terms(f) for f in (0.0, 0.11, 0.12, 0.5, 0.999, 1.0)] == [9, 9, 10, 13, 17, 18]


def test_noise_fades_to_nothing() -> None:
    assert BF.noise_weight(0.0) == pytest.approx(0.1)
    assert BF.noise_weight(0.5) == pytest.approx(0.05)
    assert BF.noise_weight(1.0) == pytest.approx(0.0)


def test_sign_has_the_series_as_its_gradient() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 1.0], requires_grad=True)
    y = BF.sign_fourier(x, 12)
    assert y.tolist() == [-1, -1, 1, 1, 1]
    y.backward(torch.full((5,), 3.0))
    assert torch.allclose(x.grad, 3 * BF.fourier_derivative(x.detach(), 12))

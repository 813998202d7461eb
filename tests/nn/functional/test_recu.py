from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from bnnapps.nn import ActivationSpec, BinaryConv2d, BinaryLinear, ConvSpec, LinearSpec
from bnnapps.nn import functional as BF


def test_standardized_filters_have_mean_zero_and_deviation_two_root_two() -> None:
    w = torch.randn(5, 3, 3, 3, dtype=torch.float64) * 4 + 1
    found = BF.standardize_to_laplace(w).flatten(1)
    assert torch.allclose(found.mean(1), torch.zeros(5, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(found.std(1), torch.full((5,), 2 * math.sqrt(2), dtype=torch.float64), rtol=1e-4)


def test_filters_of_one_element_and_constant_filters_are_finite_in_both_directions() -> None:
    for w in (torch.full((3, 1), 0.5), torch.full((2, 4), -1.0), torch.zeros(2, 4)):
        w.requires_grad_()
        BF.rectified(w, 0.9).sum().backward()
        assert torch.isfinite(w.grad).all()


@pytest.mark.parametrize("tau", [0.85, 0.9, 0.99])
def test_quantile_is_that_of_a_laplace_law(tau: float) -> None:
    w = torch.from_numpy(stats.laplace.rvs(scale=2.0, size=200_000, random_state=0))
    width = float(w.abs().mean())
    assert float(BF.laplace_quantile(w, tau)) == pytest.approx(stats.laplace.ppf(tau, scale=width), rel=1e-12)


def test_tau_of_one_clamps_nothing() -> None:
    w = torch.randn(4, 10)
    assert torch.equal(BF.rectified(w, 1.0), BF.standardize_to_laplace(w))


def test_clamped_weights_are_pulled_by_the_others_only() -> None:
    w = torch.randn(2, 50, dtype=torch.float64)
    w[0, 0] = 30.0
    w.requires_grad_()
    limit = BF.laplace_quantile(BF.standardize_to_laplace(w.detach()), 0.9)
    result = BF.rectified(w, 0.9)
    assert float(result.detach().abs().max()) == pytest.approx(float(limit))
    # The gradient is that of the standardized weight where it is not clamped.
    inside = BF.standardize_to_laplace(w.detach()).abs() < limit
    upstream = torch.randn(2, 50, dtype=torch.float64)
    (found,) = torch.autograd.grad(result, w, upstream)
    (expected,) = torch.autograd.grad(BF.standardize_to_laplace(w), w, upstream * inside)
    assert torch.allclose(found, expected)
    assert found[0, 0] != 0


def test_schedule_runs_from_085_to_099_as_an_exponential() -> None:
    f = np.linspace(0, 1, 11)
    found = np.array([BF.tau_schedule(x) for x in f])
    assert found[[0, -1]] == pytest.approx([0.85, 0.99])
    a = 0.14 / (math.e - 1)
    assert found == pytest.approx(a * np.exp(f) + 0.85 - a)


def test_samples_are_standardized_each_by_itself() -> None:
    x = torch.randn(3, 2, 4, 4) * torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1, 1)
    found = BF.standardize_samples(x, (1, 2, 3))
    assert torch.allclose(found, x / (x.flatten(1).var(1).view(3, 1, 1, 1) + 1e-5).sqrt())
    single = torch.randn(5, 1)
    assert torch.equal(BF.standardize_samples(single, (1,)), single)


@pytest.mark.parametrize("scale", ["none", "sample"])
def test_a_sample_without_a_batch_is_one_sample(scale: str) -> None:
    spec = ConvSpec(activation=ActivationSpec(standardize="sample", scale=scale))
    layer = BinaryConv2d(3, 5, 3, spec=spec).train()
    x = torch.randn(3, 6, 6)
    assert torch.allclose(layer(x), layer(x[None])[0], atol=1e-6)


def test_one_feature_keeps_its_sign_in_training() -> None:
    layer = BinaryLinear(1, 2, spec=LinearSpec(activation=ActivationSpec(standardize="sample")))
    x = torch.tensor([[2.0], [-3.0]])
    assert torch.equal(layer.train()(x), layer.eval()(x))

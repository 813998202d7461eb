from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory import kept_bytes
from numpy.typing import NDArray
from torch import Tensor

from bnnapps.nn import functional as BF

Array = NDArray[np.float64]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}
ALPHA = 0.75
VALUES = [0.0, -0.0, 0.25, -0.25, 0.375, -0.375, 0.5, ALPHA, -ALPHA, 1.0, -1.0, 1.5, -1.5, 40.0, -40.0]
RANGES = [(0, 1), (0, 3), (-2, 1), (-8, 7), (0, 255)]
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
numbers = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=30)


def scaled_gradients(codes: Tensor, alpha: Tensor, x: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients where alpha multiplies the codes as a constant, as the layers do."""
    dx, d_alpha = torch.autograd.grad(codes * alpha.detach(), (x, alpha), upstream)
    return dx, d_alpha


@by_dtype
def test_elastic_sign_is_the_published_formula(dtype: torch.dtype) -> None:
    x = torch.tensor(VALUES, dtype=dtype, requires_grad=True)
    alpha = torch.tensor([ALPHA], dtype=dtype, requires_grad=True)
    upstream = torch.linspace(-1, 2, len(VALUES)).to(dtype)
    codes = BF.elastic_sign(x, alpha)
    v, g = x.detach().double().numpy(), upstream.double().numpy()
    sign = np.where(v >= 0, 1.0, -1.0)
    assert codes.dtype == dtype
    assert np.array_equal(codes.detach().double().numpy(), sign)
    dx, d_alpha = scaled_gradients(codes, alpha, x, upstream)
    assert d_alpha.shape == alpha.shape
    np.testing.assert_allclose(dx.double().numpy(), np.where(np.abs(v / ALPHA) <= 1, g, 0), atol=TOLERANCE[dtype])
    expected = np.sum(sign * g) / math.sqrt(v.size)
    np.testing.assert_allclose(d_alpha.double().item(), expected, atol=TOLERANCE[dtype] * 10)


@by_dtype
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_learned_step_is_the_published_formula(dtype: torch.dtype, low: int, high: int) -> None:
    x = torch.tensor(VALUES, dtype=dtype, requires_grad=True)
    alpha = torch.tensor([ALPHA], dtype=dtype, requires_grad=True)
    upstream = torch.linspace(-1, 2, len(VALUES)).to(dtype)
    codes = BF.learned_step(x, alpha, low, high)
    v, g = x.detach().double().numpy(), upstream.double().numpy()
    ratio = v / ALPHA
    expected = np.clip(np.floor(ratio + 0.5), low, high)
    assert np.array_equal(codes.detach().double().numpy(), expected)
    dx, d_alpha = scaled_gradients(codes, alpha, x, upstream)
    inside = (ratio >= low) & (ratio <= high)
    np.testing.assert_allclose(dx.double().numpy(), np.where(inside, g, 0), atol=TOLERANCE[dtype])
    slope = np.where(ratio < low, low, np.where(ratio > high, high, expected - ratio))
    d_expected = np.sum(slope * g) / math.sqrt(v.size * max(high, 1))
    np.testing.assert_allclose(d_alpha.double().item(), d_expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 10)


@given(numbers, st.floats(0.05, 3))
def test_one_unsigned_bit_is_the_formula_of_bit(values: list[float], scale: float) -> None:
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor([scale], dtype=torch.float64, requires_grad=True)
    codes = BF.learned_step(x, alpha, 0, 1)
    v = x.detach().numpy()
    assert np.array_equal(codes.detach().numpy(), (v / scale >= 0.5).astype(float))
    dx, d_alpha = scaled_gradients(codes, alpha, x, torch.ones_like(x))
    inside = (v / scale >= 0) & (v / scale <= 1)
    np.testing.assert_allclose(dx.numpy(), inside.astype(float), rtol=1e-12)
    slope = (v / scale > 1) + inside * ((v / scale >= 0.5) - v / scale)
    np.testing.assert_allclose(d_alpha.item(), slope.sum() / math.sqrt(v.size), rtol=1e-9, atol=1e-9)


@given(numbers, st.sampled_from(RANGES))
def test_learned_step_gradients_are_those_of_straight_through_rounding(
    values: list[float], bounds: tuple[int, int]
) -> None:
    low, high = bounds
    # Away from the borders of the range, where autograd's clamp and the formula may differ by convention.
    x = torch.tensor([v for v in values if min(abs(v / 0.7 - low), abs(v / 0.7 - high)) > 1e-6] or [0.1]).double()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    alpha_ours, alpha_theirs = (torch.tensor([0.7], dtype=torch.float64, requires_grad=True) for _ in range(2))
    upstream = torch.linspace(-1, 1.5, x.numel(), dtype=torch.float64)
    found = scaled_gradients(BF.learned_step(ours, alpha_ours, low, high), alpha_ours, ours, upstream)
    clipped = (theirs / alpha_theirs).clamp(low, high)
    rounded = clipped + (torch.floor(clipped + 0.5).clamp(low, high) - clipped).detach()
    expected = torch.autograd.grad(rounded * alpha_theirs, (theirs, alpha_theirs), upstream)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-9, atol=1e-9)
    factor = math.sqrt(x.numel() * max(high, 1))
    torch.testing.assert_close(found[1] * factor, expected[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lowest", [-math.inf, torch.finfo(torch.float32).min])
def test_learned_step_of_a_masked_score_keeps_a_finite_gradient(lowest: float) -> None:
    x = torch.tensor([lowest, 0.4, 2.0], requires_grad=True)
    alpha = torch.tensor([0.5], requires_grad=True)
    codes = BF.learned_step(x, alpha, 0, 1)
    assert codes.tolist() == [0, 1, 1]
    dx, d_alpha = scaled_gradients(codes, alpha, x, torch.ones(3))
    assert dx.tolist() == [0, 1, 0]
    assert d_alpha.item() == pytest.approx((0 + (1 - 0.8) + 1) / math.sqrt(3))


@pytest.mark.parametrize("function", ["sign", "step"])
def test_no_gradient_mode_gives_the_same_codes(function: str) -> None:
    x, alpha = torch.randn(64, requires_grad=True), torch.tensor([0.3], requires_grad=True)

    def codes() -> Tensor:
        return BF.elastic_sign(x, alpha) if function == "sign" else BF.learned_step(x, alpha, -2, 1)

    with torch.no_grad():
        plain = codes()
    assert plain.grad_fn is None
    assert torch.equal(plain, codes())


def test_gradient_can_be_asked_for_alpha_alone_or_x_alone() -> None:
    x, alpha = torch.randn(8), torch.tensor([0.5])
    for function in (BF.elastic_sign, lambda a, b: BF.learned_step(a, b, 0, 3)):
        a = alpha.clone().requires_grad_()
        assert torch.autograd.grad(function(x, a).sum(), a)[0].shape == (1,)
        v = x.clone().requires_grad_()
        assert torch.autograd.grad(function(v, alpha).sum(), v)[0].shape == (8,)


def test_elastic_sign_keeps_two_bits_an_element() -> None:
    x, alpha = torch.randn(32, 64, requires_grad=True), torch.tensor([0.3], requires_grad=True)
    assert kept_bytes(lambda: BF.elastic_sign(x * 1, alpha)) == 2 * 32 * 64 // 8


def test_incoming_gradient_is_not_edited_in_place() -> None:
    x, alpha = torch.randn(8, requires_grad=True), torch.tensor([0.5], requires_grad=True)
    for codes in (BF.elastic_sign(x, alpha), BF.learned_step(x, alpha, -2, 1)):
        upstream = torch.randn(8)
        before = upstream.clone()
        torch.autograd.grad(codes, (x, alpha), upstream)
        assert torch.equal(upstream, before)


@pytest.mark.parametrize(
    ("low", "high", "factor"),
    [(-1, 1, 2.0), (-2, 1, 2.0), (-8, 7, 2 / math.sqrt(7)), (0, 1, 4.0), (0, 3, 4 / math.sqrt(3))],
)
@by_dtype
def test_initial_scale(low: int, high: int, factor: float, dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0, -2.0], [0.5, 0.5]], dtype=dtype)
    scale = BF.initial_scale(x, low, high)
    assert scale.shape == (1,)
    assert scale.dtype == torch.float32
    assert scale.item() == pytest.approx(factor * 1.0, rel=1e-6)


def test_initial_scale_of_zeros_is_small_and_positive() -> None:
    assert BF.initial_scale(torch.zeros(4), -1, 1).item() == pytest.approx(1e-5)


def numpy_uniform(x: Array, low: float, high: float, bits: int, unsigned: bool) -> Array:
    c = np.clip(x, low, high)
    if unsigned:
        width = max((c.max() - c.min()) / (2**bits - 1), 1e-5)
        return np.rint((c - c.min()) / width) * width + c.min()
    width = max(np.abs(c).max() / (2 ** (bits - 1) - 1), 1e-5)
    return np.rint(c / width) * width


@given(numbers, st.sampled_from([2, 4, 8]), st.booleans())
def test_clipped_uniform_is_the_numpy_formula(values: list[float], bits: int, unsigned: bool) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    low, high = torch.tensor([-2.5], dtype=torch.float64), torch.tensor([2.5], dtype=torch.float64)
    found = BF.clipped_uniform(x, low, high, bits, unsigned)
    expected = numpy_uniform(x.numpy(), -2.5, 2.5, bits, unsigned)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)
    assert len(np.unique(np.round(found.numpy(), 6))) <= 2**bits


def test_clipped_uniform_gradient_goes_to_x_inside_and_to_the_bound_beyond() -> None:
    x = torch.tensor([-9.0, -3.0, -1.0, 0.0, 0.7, 2.0, 8.0], requires_grad=True)
    low, high = torch.tensor([-2.5], requires_grad=True), torch.tensor([2.5], requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    dx, d_low, d_high = torch.autograd.grad(BF.clipped_uniform(x, low, high, 8, False), (x, low, high), upstream)
    assert dx.tolist() == [0, 0, 3, 4, 5, 6, 0]
    assert d_low.tolist() == [3]
    assert d_high.tolist() == [7]


def test_clipped_uniform_of_a_constant() -> None:
    low, high = torch.tensor([-2.5]), torch.tensor([2.5])
    for value in (0.0, 1.5, 100.0, -100.0):
        x = torch.full((4,), value)
        for unsigned in (False, True):
            found = BF.clipped_uniform(x, low, high, 8, unsigned)
            torch.testing.assert_close(found, x.clamp(-2.5, 2.5), rtol=1e-6, atol=1e-6)

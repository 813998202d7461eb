from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import kept_bytes
from pydantic import ValidationError
from torch import Tensor

from bnnapps.nn import functional as BF
from bnnapps.nn.estimator import SignEstimator
from bnnapps.nn.functional.levels import Grid, grid, pack_levels, unpack_levels
from bnnapps.nn.spec import EstimatorSpec
from bnnapps.nn.spec.parts import EstimatorName

K, T, BETA, N, OMEGA = 2.0, 3.0, 5.0, 18, 0.1
WEIGHTED: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor], Tensor]]] = {
    "polynomial": (BF.sign_polynomial, BF.polynomial_derivative),
    "ede": (lambda x, **k: BF.sign_ede(x, K, T, **k), lambda x: BF.ede_derivative(x, K, T)),
    "ede tensors": (
        lambda x, **k: BF.sign_ede(x, torch.tensor(K), torch.tensor(T), **k),
        lambda x: BF.ede_derivative(x, K, T),
    ),
    "swish": (lambda x, **k: BF.sign_swish(x, BETA, **k), lambda x: BF.swish_derivative(x, BETA)),
    "fourier": (lambda x, **k: BF.sign_fourier(x, N, OMEGA, **k), lambda x: BF.fourier_derivative(x, N, OMEGA)),
}
by_estimator = pytest.mark.parametrize("name", WEIGHTED)
by_bits = pytest.mark.parametrize("bits", [2, 3, 4])


def identity(x: Tensor) -> Tensor:
    return x


def values_of(levels: Grid) -> Tensor:
    return (torch.arange(2**levels.bits) - levels.zero) * levels.step


def drawn(x: Tensor, levels: Grid) -> Tensor:
    return unpack_levels(pack_levels(x, identity, levels), torch.float32)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_a_grid_from_zero_has_its_ends_and_equal_steps(bits: int) -> None:
    found = values_of(grid(bits, 2.0))
    torch.testing.assert_close(found, torch.linspace(0, 2, 2**bits))


@by_bits
@pytest.mark.parametrize("negative", [0.01, 0.074, 0.218, 0.5, 1.0])
def test_a_grid_with_negative_levels_holds_zero_and_reaches_both_ends(bits: int, negative: float) -> None:
    found = values_of(grid(bits, 5.0, negative))
    assert found.min() <= -5.0 * negative * (1 - 1e-6)
    assert found.max() >= 5.0 * (1 - 1e-6)
    assert (found == 0).sum() == 1
    worse = [max(1 / (2**bits - 1 - z), negative / z) for z in range(1, 2**bits - 1)]
    assert float(found[1] - found[0]) == pytest.approx(5.0 * min(worse))


@pytest.mark.parametrize(("bits", "negative"), [(0, 0.0), (5, 0.0), (1, 0.1)])
def test_a_grid_that_cannot_be(bits: int, negative: float) -> None:
    with pytest.raises(ValueError, match=f"not in {bits}"):
        grid(bits, 1.0, negative)


@pytest.mark.parametrize("levels", [grid(1, 1.5), grid(2, 2.0), grid(3, 7.0), grid(4, 1.0), grid(3, 2.0, 0.2)], ids=str)
def test_levels_are_kept_as_they_are(levels: Grid) -> None:
    x = values_of(levels)[torch.randint(2**levels.bits, (5, 7, 3), generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(drawn(x, levels), x)


@pytest.mark.parametrize("levels", [grid(1, 2.0), grid(2, 2.0), grid(3, 2.0), grid(4, 2.0), grid(2, 2.0, 0.2)], ids=str)
@pytest.mark.parametrize("value", [0.01, 0.3, 0.9, 1.27, 1.99])
def test_one_of_the_two_levels_beside_a_value_with_the_value_as_mean(levels: Grid, value: float) -> None:
    torch.manual_seed(0)
    count = 400_000  # several blocks
    found = drawn(torch.full((count,), value), levels)
    possible = values_of(levels)
    step = float(levels.step)
    near = possible[(possible - value).abs() < step * (1 + 1e-3)]
    assert set(found.unique().tolist()) <= set(near.tolist())
    bias, noise = step / 2 ** (8 - levels.bits), step / math.sqrt(count)
    assert abs(float(found.double().mean()) - value) <= bias + 4 * noise


def test_draws_differ_from_block_to_block_and_are_independent() -> None:
    torch.manual_seed(0)
    rows = drawn(torch.full((8, 1 << 17), 0.5), grid(1, 1.0))
    assert torch.corrcoef(rows).fill_diagonal_(0).abs().max() < 0.02
    lanes = rows.view(-1, 8).t()
    assert torch.corrcoef(lanes).fill_diagonal_(0).abs().max() < 0.03


def test_beyond_the_grid_and_no_number() -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf, 3.0, -1.0])
    for repeats in (1, 100):  # one by one, and by vector instructions
        assert drawn(x.repeat(repeats), grid(2, 2.0)).tolist() == repeats * [0, 2, 0, 2, 0]
        assert drawn(x.repeat(repeats), grid(2, 2.0, 0.5)).tolist() == repeats * [-1, 2, -1, 2, -1]


@given(
    shape=st.lists(st.integers(0, 5), min_size=0, max_size=4),
    bits=st.integers(1, 4),
    turn=st.booleans(),
    gaps=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_shape_and_layout(shape: list[int], bits: int, turn: bool, gaps: bool) -> None:
    levels = grid(bits, 2.0)
    x = values_of(levels)[torch.randint(2**bits, shape)]
    if gaps and shape:
        x = x.repeat_interleave(2, dim=0)[::2]
    if turn and len(shape) > 1:
        x = x.transpose(0, -1)
    packed = pack_levels(x, identity, levels)
    torch.testing.assert_close(unpack_levels(packed, torch.float32), x)
    assert packed.data.nbytes == bits * math.ceil(x.numel() / 8)


@by_estimator
@by_bits
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_gradient_keeps_its_mean(name: str, bits: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    function, derivative = WEIGHTED[name]
    points = torch.tensor([0.0, 0.1, -0.3, 0.7, -0.9, 1.5, -40.0], dtype=dtype)
    x = points.repeat(20_000, 1).requires_grad_()
    y = function(x, keep_bits=bits)
    assert torch.equal(y, BF.sign(x.detach()))
    y.backward(torch.full_like(y, -0.5))
    assert x.grad is not None
    assert x.grad.dtype == dtype
    largest = float(derivative(torch.zeros(1, dtype=torch.float64)))
    expected = -0.5 * derivative(points.double())
    rounding = {torch.bfloat16: 8e-3, torch.float16: 1e-3}.get(dtype, 0.0)
    step = largest / (2**bits - 2)
    tolerance = 0.5 * step * (2 ** (bits - 8) + 4 / math.sqrt(20_000)) + largest * rounding
    torch.testing.assert_close(x.grad.double().mean(dim=0), expected, rtol=0, atol=tolerance)


def test_a_saturated_unit_gets_no_gradient() -> None:
    x = torch.tensor([1.0, -1.0, 1.5, 100.0]).repeat(1000).requires_grad_()
    BF.sign_polynomial(x, keep_bits=2).sum().backward()
    assert x.grad is not None
    assert not x.grad.any()


def test_draws_follow_the_seed() -> None:
    def gradient(seed: int) -> Tensor:
        x = torch.linspace(-1, 1, 1000).requires_grad_()
        torch.manual_seed(seed)
        BF.sign_polynomial(x, keep_bits=2).sum().backward()
        assert x.grad is not None
        return x.grad

    assert torch.equal(gradient(1), gradient(1))
    assert not torch.equal(gradient(1), gradient(2))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_so_many_bits_are_kept(bits: int) -> None:
    x = torch.randn(64, 100).requires_grad_()
    assert kept_bytes(lambda: BF.sign_polynomial(x * 1.0, keep_bits=bits)) == 6400 * bits // 8
    assert kept_bytes(lambda: BF.sign_polynomial(x * 1.0)) == 6400 * 4


def test_nothing_is_kept_or_drawn_without_a_gradient() -> None:
    state = torch.get_rng_state()
    BF.sign_polynomial(torch.randn(3, generator=torch.Generator()), keep_bits=2)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["polynomial", "ede", "swish", "fourier"])
def test_the_record_asks_for_it(name: EstimatorName) -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    estimator = SignEstimator(EstimatorSpec(name=name, keep_bits=2))
    (found,) = torch.autograd.grad(estimator(x).sum(), x)
    assert len(found.unique()) <= 4
    (exact,) = torch.autograd.grad(SignEstimator(EstimatorSpec(name=name))(x).sum(), x)
    assert len(exact.unique()) > 100
    assert float((found - exact).abs().max()) <= float(exact.abs().max())


@pytest.mark.parametrize("name", ["identity", "clip"])
def test_estimators_that_need_a_bit_stay_exact(name: EstimatorName) -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    grads = [
        torch.autograd.grad(SignEstimator(EstimatorSpec(name=name, keep_bits=k))(x).sum(), x)[0] for k in (None, 2)
    ]
    assert torch.equal(*grads)


@pytest.mark.parametrize(("name", "bits"), [("swish", 1), ("fourier", 1), ("polynomial", 0), ("polynomial", 5)])
def test_bits_that_do_not_serve_are_refused(name: EstimatorName, bits: int) -> None:
    with pytest.raises(ValidationError, match="keep_bits"):
        EstimatorSpec(name=name, keep_bits=bits)

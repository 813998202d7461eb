from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnnapps.nn import functional as BF

Array = NDArray[np.float64]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-2, torch.float16: 1e-2}
LIMITS = (1.0, 1.25)
BETA, K, T, SLOPE = 5.0, 2.0, 3.0, 2.0
VALUES = [0.0, -0.0, 0.25, -0.25, 0.5, -0.5, 1.0, -1.0, 1.125, -1.125, 1.25, -1.25, 1.5, -1.5, 100.0, -100.0]
INFINITIES = [math.inf, -math.inf]


def numpy_sign(x: Array) -> Array:
    return np.where(x >= 0, 1.0, -1.0)


def numpy_step(x: Array) -> Array:
    return np.where(x >= 0, 1.0, 0.0)


def swish_gradient(x: Array) -> Array:
    z = np.clip(BETA * x, -500, 500)
    return BETA * (2 - z * np.tanh(z / 2)) / (1 + np.cosh(z))


ESTIMATORS: dict[str, tuple[Callable[..., Tensor], Callable[[Array], Array]]] = {
    "identity": (BF.sign_identity, np.ones_like),
    "clip": (BF.sign_clip, lambda x: (np.abs(x) <= 1.0).astype(float)),
    "clip wide": (lambda x, **k: BF.sign_clip(x, 1.25, **k), lambda x: (np.abs(x) <= 1.25).astype(float)),
    "polynomial": (BF.sign_polynomial, lambda x: np.maximum(0.0, 2 - 2 * np.abs(x))),
    "ede": (lambda x, **k: BF.sign_ede(x, K, T, **k), lambda x: K * T * (1 - np.tanh(T * x) ** 2)),
    "ede tensors": (
        lambda x, **k: BF.sign_ede(x, torch.tensor(K), torch.tensor(T), **k),
        lambda x: K * T * (1 - np.tanh(T * x) ** 2),
    ),
    "swish": (lambda x, **k: BF.sign_swish(x, BETA, **k), swish_gradient),
    "lpb": (lambda x, **k: BF.sign_lpb(x, torch.tensor([SLOPE]), **k), lambda x: SLOPE * (np.abs(SLOPE * x) <= 1)),
}
by_estimator = pytest.mark.parametrize("name", ESTIMATORS)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@by_dtype
@pytest.mark.parametrize(("ours", "theirs"), [(BF.sign, numpy_sign), (BF.step, numpy_step)])
def test_forward_is_the_numpy_formula(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Array], Array], dtype: torch.dtype
) -> None:
    x = torch.tensor(VALUES + INFINITIES, dtype=dtype)
    result = ours(x)
    assert result.dtype == dtype
    assert np.array_equal(result.double().numpy(), theirs(x.double().numpy()))


@by_dtype
def test_not_a_number_counts_as_negative(dtype: torch.dtype) -> None:
    x = torch.full((5,), math.nan, dtype=dtype)
    assert torch.equal(BF.sign(x), torch.full_like(x, -1))
    assert torch.equal(BF.step(x), torch.zeros_like(x))


def test_sign_serves_every_device_whatever_the_default_is() -> None:
    with torch.device("meta"):
        BF.sign(torch.zeros(3, dtype=torch.int32, device="cpu"))
    assert BF.sign(torch.tensor([-2, 0, 3], dtype=torch.int32)).tolist() == [-1, 1, 1]


def test_sign_reads_only_and_keeps_shape_and_memory_format() -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    before = x.clone()
    assert torch.equal(BF.sign(x), torch.where(before >= 0, 1.0, -1.0))
    assert torch.equal(x, before)
    assert BF.sign(x).is_contiguous(memory_format=torch.channels_last)
    for odd in (torch.tensor(-2.0), torch.empty(0, 3), torch.randn(4, 6)[:, ::2], torch.randn(3, 1).expand(3, 4)):
        assert torch.equal(BF.sign(odd), torch.where(odd >= 0, 1.0, -1.0))
        assert torch.equal(BF.step(odd), torch.where(odd >= 0, 1.0, 0.0))


@by_estimator
@by_dtype
@pytest.mark.parametrize("codes", [BF.sign, BF.step])
def test_estimator_forward_and_gradient(name: str, dtype: torch.dtype, codes: Callable[[Tensor], Tensor]) -> None:
    function, multiplier = ESTIMATORS[name]
    x = torch.tensor(VALUES, dtype=dtype, requires_grad=True)
    upstream = torch.linspace(-2, 3, len(VALUES)).to(dtype)
    y = function(x, forward=codes)
    assert torch.equal(y, codes(x))
    y.backward(upstream)
    assert x.grad is not None
    assert x.grad.dtype == dtype
    expected = multiplier(x.detach().double().numpy()) * upstream.double().numpy()
    np.testing.assert_allclose(x.grad.double().numpy(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@by_estimator
def test_estimator_at_infinity(name: str) -> None:
    function, multiplier = ESTIMATORS[name]
    x = torch.tensor([math.inf, -math.inf, 0.5], requires_grad=True)
    function(x).backward(torch.ones(3))
    assert x.grad is not None
    expected = multiplier(np.array([1e6, -1e6, 0.5]))
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("limit", LIMITS)
def test_clip_window_includes_its_border_and_nothing_beyond(limit: float) -> None:
    beyond = math.nextafter(limit, 2)
    x = torch.tensor([limit, -limit, beyond, -beyond, math.nan], dtype=torch.float64, requires_grad=True)
    BF.sign_clip(x, limit).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1, 0, 0, 0]


PRIMITIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "polynomial": lambda x: torch.where(
        x.abs() >= 1, BF.sign(x), torch.where(x < 0, 2 * x + x.square(), 2 * x - x.square())
    ),
    "ede": lambda x: K * torch.tanh(T * x),
    "swish": lambda x: 2 * torch.sigmoid(BETA * x) * (1 + BETA * x * (1 - torch.sigmoid(BETA * x))) - 1,
    "clip": lambda x: x.clamp(-1, 1),
    "lpb": lambda x: (SLOPE * x).clamp(-1, 1),
}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_gradient_is_the_derivative_of_the_published_smooth_function(name: str) -> None:
    points = torch.cat([torch.linspace(-1.9, 1.9, 40), torch.tensor([0.0])]).double()
    through_autograd, smooth = (points.clone().requires_grad_() for _ in range(2))
    ESTIMATORS[name][0](through_autograd).sum().backward()
    PRIMITIVES[name](smooth).sum().backward()
    assert through_autograd.grad is not None
    assert smooth.grad is not None
    torch.testing.assert_close(through_autograd.grad, smooth.grad, rtol=1e-9, atol=1e-9)


@by_estimator
def test_defect_10_incoming_gradient_is_not_edited_in_place(name: str) -> None:
    x = torch.tensor(VALUES, requires_grad=True)
    upstream = torch.randn(len(VALUES))
    before = upstream.clone()
    y = ESTIMATORS[name][0](x)
    y.backward(upstream, retain_graph=True)
    first = x.grad
    assert first is not None
    assert torch.equal(upstream, before)
    x.grad = None
    y.backward(upstream)
    assert x.grad is not None
    assert torch.equal(first, x.grad)
    first.add_(1)
    assert torch.equal(upstream, before)


@by_estimator
def test_without_a_gradient_to_pass_nothing_is_recorded(name: str) -> None:
    function = ESTIMATORS[name][0]
    assert function(torch.tensor(VALUES)).grad_fn is None
    x = torch.tensor(VALUES, requires_grad=True)
    with torch.no_grad():
        assert function(x).grad_fn is None
    with torch.inference_mode():
        assert torch.equal(function(torch.tensor(VALUES)), BF.sign(torch.tensor(VALUES)))


@by_estimator
def test_gradient_of_a_view_with_gaps_and_of_no_elements(name: str) -> None:
    function, multiplier = ESTIMATORS[name]
    base = torch.linspace(-2, 2, 30, dtype=torch.float64).view(5, 6).requires_grad_()
    function(base.t()[::2]).sum().backward()
    assert base.grad is not None
    expected = np.zeros((5, 6))
    expected[:, ::2] = multiplier(base.detach().numpy())[:, ::2]
    np.testing.assert_allclose(base.grad.numpy(), expected, rtol=1e-12, atol=1e-12)
    empty = torch.empty(0, 3, requires_grad=True)
    function(empty).sum().backward()
    assert empty.grad is not None
    assert empty.grad.shape == (0, 3)


@pytest.mark.parametrize(
    ("fraction", "t_min", "t_max", "expected"),
    [
        (0.0, 0.1, 10.0, (10.0, 0.1)),
        (0.5, 0.1, 10.0, (1.0, 1.0)),
        (1.0, 0.1, 10.0, (1.0, 10.0)),
        (0.0, 1e-3, 10.0, (1e3, 1e-3)),
        (0.25, 1e-3, 10.0, (10.0**2, 10.0**-2)),
        (0.75, 1e-3, 10.0, (1.0, 1.0)),
    ],
)
def test_ede_schedule_is_the_published_one(
    fraction: float, t_min: float, t_max: float, expected: tuple[float, float]
) -> None:
    assert BF.ede_schedule(fraction, t_min, t_max) == pytest.approx(expected, rel=1e-12)


def test_derivatives_do_not_change_their_argument() -> None:
    x = torch.tensor(VALUES)
    before = x.clone()
    derivatives: list[Any] = [BF.polynomial_derivative, BF.swish_derivative, lambda v: BF.ede_derivative(v, K, T)]
    for derivative in derivatives:
        derivative(x)
        assert torch.equal(x, before)

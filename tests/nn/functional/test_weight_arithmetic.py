from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from bnnapps.nn import functional as BF

Array = NDArray[np.float64]
SHAPES = [(4, 6), (5, 3, 3), (4, 2, 3, 3), (3, 2, 2, 3, 2)]
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
by_group = pytest.mark.parametrize("over", ["layer", "filter"])


def axes(w: Array, over: str) -> tuple[int, ...]:
    return tuple(range(w.ndim)) if over == "layer" else tuple(range(1, w.ndim))


def weight(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


@by_shape
@by_group
def test_mean_abs(shape: tuple[int, ...], over: str) -> None:
    w = weight(shape)
    expected = np.abs(w.numpy()).mean(axis=axes(w.numpy(), over), keepdims=True)
    np.testing.assert_allclose(BF.mean_abs(w, over).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_mean_abs_of_many_small_numbers_in_short_types(dtype: torch.dtype) -> None:
    w = torch.full((2, 65536), 0.25, dtype=dtype)
    w[1] *= -1
    assert BF.mean_abs(w, "filter").flatten().tolist() == [0.25, 0.25]


def test_mean_abs_of_no_filters_is_empty() -> None:
    assert BF.mean_abs(torch.empty(0, 5), "filter").shape == (0, 1)


@by_shape
@pytest.mark.parametrize("over", ["layer", "filter", "channel"])
@pytest.mark.parametrize("detach", [False, True])
def test_centre(shape: tuple[int, ...], over: str, detach: bool) -> None:
    w = weight(shape).requires_grad_()
    a = w.detach().numpy()
    along = {"layer": axes(a, "layer"), "filter": axes(a, "filter"), "channel": (1,)}[over]
    centred = BF.centre(w, over, detach)
    np.testing.assert_allclose(centred.detach().numpy(), a - a.mean(axis=along, keepdims=True), atol=1e-14)
    upstream = torch.randn(shape, dtype=torch.float64)
    (dw,) = torch.autograd.grad(centred, w, upstream)
    g = upstream.numpy()
    np.testing.assert_allclose(dw.numpy(), g if detach else g - g.mean(axis=along, keepdims=True), atol=1e-14)


def test_centre_of_some_rows_can_use_the_mean_of_the_whole_layer() -> None:
    table = weight((10, 4))
    rows = table[2:5]
    torch.testing.assert_close(BF.centre(rows, "layer", whole=table), rows - table.mean())
    torch.testing.assert_close(BF.centre(rows, "filter", whole=table), rows - rows.mean(1, keepdim=True))


def test_channel_centring_leaves_depthwise_filters_alone() -> None:
    w = weight((6, 1, 3, 3))
    assert torch.equal(BF.centre(w, "channel"), w)


@by_shape
def test_standardize(shape: tuple[int, ...]) -> None:
    w = weight(shape).requires_grad_()
    a = w.detach().numpy()
    along = axes(a, "filter")
    found = BF.standardize(w)
    expected = (a - a.mean(axis=along, keepdims=True)) / a.std(axis=along, ddof=1, keepdims=True)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10)
    assert torch.autograd.gradcheck(BF.standardize, (w,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e-3])
def test_a_constant_filter_is_standardized_to_zeros(dtype: torch.dtype, value: float) -> None:
    w = torch.full((3, 7), value, dtype=dtype)
    assert torch.equal(BF.standardize(w), torch.zeros_like(w))


@pytest.mark.parametrize("shape", [(4, 1), (4, 1, 1, 1)])
def test_a_filter_of_one_element_is_standardized_to_zero_not_nan(shape: tuple[int, ...]) -> None:
    w = torch.randn(shape, requires_grad=True)
    found = BF.standardize(w)
    assert torch.equal(found, torch.zeros(shape))
    found.sum().backward()
    assert w.grad is not None
    assert bool(w.grad.isfinite().all())


@pytest.mark.parametrize(
    ("mean", "expected"),
    [(1.0, 1.0), (0.8, 1.0), (0.72, 1.0), (0.70, 0.5), (1.4, 1.0), (1.42, 2.0), (0.1, 0.125), (90, 64)],
)
def test_power_of_two(mean: float, expected: float) -> None:
    w = torch.tensor([[mean, -mean], [2 * mean, 0.0]])
    assert BF.power_of_two(w).flatten().tolist() == [expected, expected]


def test_power_of_two_over_the_layer() -> None:
    w = torch.tensor([[1.0, 1.0], [7.0, -7.0]])
    assert BF.power_of_two(w, "layer").tolist() == [[4.0]]


def test_power_of_two_of_zeros_is_no_number_to_divide_by_but_finite() -> None:
    scale = BF.positive(BF.power_of_two(torch.zeros(2, 3)))
    assert bool((scale > 0).all())
    assert bool(scale.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_positive(dtype: torch.dtype) -> None:
    scale = torch.tensor([0.0, 0.5, 3.0], dtype=dtype)
    found = BF.positive(scale)
    assert found[0] > 0
    assert torch.equal(found[1:], scale[1:])
    assert bool((1 / found).isfinite().all())


def ste(w: Tensor) -> Tensor:
    """sign(w) whose gradient is 1{|w| <= 1}, from autograd's own operators."""
    window = w.clamp(-1, 1)
    return window + (torch.where(w >= 0, 1.0, -1.0) - window).detach()


@by_shape
@by_group
def test_product_rule_is_autograd_of_the_differentiable_formula(shape: tuple[int, ...], over: str) -> None:
    w_ours = weight(shape).requires_grad_()
    w_theirs = w_ours.detach().clone().requires_grad_()
    upstream = torch.randn(shape, dtype=torch.float64)
    scale = BF.mean_abs(w_ours.detach(), over)
    ours = BF.product_rule(BF.sign_clip(w_ours), w_ours, scale) * scale
    dims = axes(w_theirs.detach().numpy(), over)
    theirs = w_theirs.abs().mean(dim=dims, keepdim=True) * ste(w_theirs)
    torch.testing.assert_close(ours, theirs)
    (found,) = torch.autograd.grad(ours, w_ours, upstream)
    (expected,) = torch.autograd.grad(theirs, w_theirs, upstream)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_product_rule_in_numbers() -> None:
    w = torch.tensor([[0.5, -1.5, 1.0]], requires_grad=True)
    scale = torch.tensor([[1.0]])
    (BF.product_rule(BF.sign_clip(w), w, scale) * scale).backward(torch.tensor([[3.0, 6.0, -9.0]]))
    # alpha m G = (3, 0, -9); sign mean(G sign) = (1, -1, 1) * (3 - 6 - 9) / 3
    assert w.grad is not None
    assert w.grad.tolist() == [[3 - 4, 0 + 4, -9 - 4]]


def test_product_rule_where_the_code_is_the_sign_of_something_else() -> None:
    w_ours = weight((4, 7)).requires_grad_()
    w_theirs = w_ours.detach().clone().requires_grad_()
    scale = BF.mean_abs(w_ours.detach(), "filter")
    ours = BF.product_rule(BF.sign_clip(BF.centre(w_ours, "filter")), w_ours, scale) * scale
    theirs = w_theirs.abs().mean(1, keepdim=True) * ste(w_theirs - w_theirs.mean(1, keepdim=True))
    upstream = torch.randn(4, 7, dtype=torch.float64)
    (found,) = torch.autograd.grad(ours, w_ours, upstream)
    (expected,) = torch.autograd.grad(theirs, w_theirs, upstream)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@by_group
def test_unscaled_gives_back_the_gradient_of_the_scaled_code(over: str) -> None:
    w = weight((4, 6)).requires_grad_()
    scale = BF.mean_abs(w.detach(), over)
    upstream = torch.randn(4, 6, dtype=torch.float64)
    (dw,) = torch.autograd.grad(BF.unscaled(BF.sign_identity(w), scale) * scale, w, upstream)
    torch.testing.assert_close(dw, upstream, rtol=1e-12, atol=1e-12)


def test_incoming_gradients_are_not_edited_in_place() -> None:
    w = torch.randn(4, 6, requires_grad=True)
    scale = BF.mean_abs(w.detach(), "filter")
    functions: list[Callable[[], Tensor]] = [
        lambda: BF.unscaled(BF.sign_clip(w), scale),
        lambda: BF.product_rule(BF.sign_clip(w), w, scale),
        lambda: BF.ternary(w)[0],
    ]
    for function in functions:
        upstream = torch.randn(4, 6)
        before = upstream.clone()
        function().backward(upstream)
        assert torch.equal(upstream, before)


def numpy_ternary(w: Array, over: str) -> tuple[Array, Array]:
    along = axes(w, over)
    threshold = 0.7 * np.abs(w).mean(axis=along, keepdims=True)
    kept = np.abs(w) > threshold
    scale = (np.abs(w) * kept).sum(axis=along, keepdims=True) / np.maximum(kept.sum(axis=along, keepdims=True), 1)
    return np.sign(w) * kept, scale


@by_shape
@by_group
def test_ternary_codes(shape: tuple[int, ...], over: str) -> None:
    w = weight(shape)
    codes, scale = BF.ternary_codes(w, over)
    expected_codes, expected_scale = numpy_ternary(w.numpy(), over)
    assert np.array_equal(codes.numpy(), expected_codes)
    np.testing.assert_allclose(scale.numpy(), expected_scale, rtol=1e-12)


def test_ternary_in_numbers() -> None:
    w = torch.tensor([[1.0, -2.0, 0.1, -0.1], [0.0, 0.0, 0.0, 0.0], [3.0, 3.0, -3.0, 3.0]])
    codes, scale = BF.ternary_codes(w, "filter")
    assert codes.tolist() == [[1, -1, 0, 0], [0, 0, 0, 0], [1, 1, -1, 1]]
    assert scale.flatten().tolist() == [1.5, 0, 3]


def test_ternary_of_looked_up_rows_uses_the_statistics_of_the_layer() -> None:
    table = weight((10, 4))
    codes, scale = BF.ternary_codes(table[3:6], "layer", whole=table)
    all_codes, all_scale = BF.ternary_codes(table, "layer")
    assert torch.equal(codes, all_codes[3:6])
    assert torch.equal(scale, all_scale)


@by_group
def test_ternary_passes_the_gradient_of_the_scaled_weight_unchanged(over: str) -> None:
    w = weight((4, 6)).requires_grad_()
    codes, scale = BF.ternary(w, over)
    upstream = torch.randn(4, 6, dtype=torch.float64)
    (dw,) = torch.autograd.grad(codes * scale, w, upstream)
    torch.testing.assert_close(dw, upstream, rtol=1e-12, atol=1e-12)


def binary_sum(first: Tensor, second: Tensor, over: str) -> Tensor:
    return BF.sign(first) * BF.mean_abs(first, over) + BF.sign(second) * BF.mean_abs(second, over)


@given(st.integers(1, 6), st.integers(2, 40), st.integers(0, 2**31), st.sampled_from(["layer", "filter"]))
def test_split_sums_to_the_latent_weight_and_its_binary_versions_to_the_ternary_one(
    rows: int, columns: int, seed: int, over: str
) -> None:
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    codes, scale = BF.ternary_codes(w, over)
    zero = codes == 0
    along = axes(w.numpy(), over)
    kept_sum = w.abs().masked_fill(zero, 0).sum(along, keepdim=True)
    imbalance = w.masked_fill(~zero, 0).sum(along, keepdim=True).abs()
    holds = (imbalance < kept_sum).expand_as(w)
    first, second = BF.split_ternary(w, over)
    torch.testing.assert_close(first + second, w, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(BF.mean_abs(first, over), BF.mean_abs(second, over), rtol=1e-9, atol=1e-12)
    found, expected = binary_sum(first, second, over), codes * scale
    torch.testing.assert_close(found[holds], expected[holds], rtol=1e-9, atol=1e-9)


def test_split_in_numbers() -> None:
    # mean |w| = 1, threshold 0.7: kept 2 and -2 (scale 2), zeros 0.5, -0.5, 0, 1e-9 rounds to none.
    w = torch.tensor([[2.0, -2.0, 0.5, -0.5, 0.0]], dtype=torch.float64)
    first, second = BF.split_ternary(w, "filter")
    b = (2 * 5 - 5) / (2 * 3)
    s, s1, s2 = 4.0, (0.5 + b) + b + b, b + (0.5 + b) + b
    a = (s + s2 - s1) / (2 * s)
    expected = [2 * a, -2 * a, 0.5 + b, b, b]
    np.testing.assert_allclose(first.numpy(), [expected], rtol=1e-12)
    np.testing.assert_allclose(second.numpy(), w.numpy() - [expected], rtol=1e-12)
    torch.testing.assert_close(binary_sum(first, second, "filter"), torch.tensor([[2.0, -2, 0, 0, 0]]).double())


@by_group
def test_split_of_degenerate_groups(over: str) -> None:
    zeros = torch.zeros(2, 4)
    first, second = BF.split_ternary(zeros, over)
    assert not first.any()
    assert not second.any()
    equal = torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    first, second = BF.split_ternary(equal, over)
    assert torch.equal(first, equal / 2)
    assert torch.equal(second, equal / 2)
    single = torch.tensor([[3.0], [-3.0]])
    first, second = BF.split_ternary(single, over)
    assert torch.equal(first + second, single)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_split_keeps_the_type_and_is_computed_in_double(dtype: torch.dtype) -> None:
    w = torch.randn(8, 64).to(dtype)
    first, second = BF.split_ternary(w, "filter")
    precise_first, precise_second = BF.split_ternary(w.double(), "filter")
    assert first.dtype == second.dtype == dtype
    assert torch.equal(first, precise_first.to(dtype))
    assert torch.equal(second, precise_second.to(dtype))


def test_scales_of_a_gaussian_are_the_known_constants() -> None:
    w = torch.randn(4, 200_000)
    np.testing.assert_allclose(BF.mean_abs(w, "filter").numpy(), math.sqrt(2 / math.pi), rtol=1e-2)
    assert BF.power_of_two(BF.standardize(w)).flatten().tolist() == [1.0] * 4

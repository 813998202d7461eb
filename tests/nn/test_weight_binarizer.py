from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bnnapps.nn import EstimatorSpec, WeightBinarizer, WeightSpec
from bnnapps.nn import functional as BF

IDENTITY = EstimatorSpec(name="identity")


def random_weight(*shape: int) -> Tensor:
    return torch.randn(shape or (4, 3, 3, 3), dtype=torch.float64).requires_grad_()


def value_and_gradient(spec: WeightSpec, weight: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """scale * code, and the gradient of the latent weight when `upstream` meets the scaled code."""
    codes, scale, *_ = WeightBinarizer(spec, weight.detach())(weight)
    scaled = codes if scale is None else codes * scale
    (gradient,) = torch.autograd.grad(scaled, weight, upstream)
    return scaled.detach(), gradient


def inside(w: Tensor) -> Tensor:
    return (w.abs() <= 1).to(w.dtype)


@pytest.mark.parametrize("over", ["layer", "filter"])
@pytest.mark.parametrize("scale_gradient", ["straight", "constant", "full"])
def test_scale_gradients_are_the_documented_formulas(over: str, scale_gradient: str) -> None:
    w = random_weight()
    upstream = torch.randn_like(w)
    spec = WeightSpec(scale_over=over, scale_gradient=scale_gradient)  # type: ignore[arg-type]
    value, gradient = value_and_gradient(spec, w, upstream)
    a = w.detach()
    dims = (0, 1, 2, 3) if over == "layer" else (1, 2, 3)
    alpha = a.abs().mean(dims, keepdim=True)
    torch.testing.assert_close(value, alpha * BF.sign(a))
    through_sign = inside(a) * upstream
    expected = {
        "straight": through_sign,
        "constant": alpha * through_sign,
        "full": alpha * through_sign + BF.sign(a) * (upstream * BF.sign(a)).mean(dims, keepdim=True),
    }
    torch.testing.assert_close(gradient, expected[scale_gradient])


def test_bibert_weight_scale_of_the_raw_row_sign_of_the_centred_one() -> None:
    w = random_weight(5, 8)
    upstream = torch.randn_like(w)
    spec = WeightSpec(transform="centre", over="filter", scale_of="latent")
    value, gradient = value_and_gradient(spec, w, upstream)
    a = w.detach()
    centred = a - a.mean(1, keepdim=True)
    torch.testing.assert_close(value, a.abs().mean(1, keepdim=True) * BF.sign(centred))
    through = inside(centred) * upstream
    torch.testing.assert_close(gradient, through - through.mean(1, keepdim=True))


def test_bit_weight_one_mean_for_the_matrix_and_no_gradient_through_it() -> None:
    w = random_weight(5, 8)
    upstream = torch.randn_like(w)
    spec = WeightSpec(
        transform="centre", over="layer", detach_mean=True, scale_of="latent", scale_over="layer", estimator=IDENTITY
    )
    value, gradient = value_and_gradient(spec, w, upstream)
    a = w.detach()
    torch.testing.assert_close(value, a.abs().mean() * BF.sign(a - a.mean()))
    torch.testing.assert_close(gradient, upstream)


def test_irnet_weight_is_autograd_through_mean_and_deviation() -> None:
    w = random_weight(5, 3, 3, 3)
    upstream = torch.randn_like(w)
    spec = WeightSpec(
        transform="standardize", scale="power_of_two", scale_gradient="constant", estimator=EstimatorSpec(name="ede")
    )
    value, gradient = value_and_gradient(spec, w, upstream)
    v = w.detach().clone().requires_grad_()
    standard = (v - v.mean((1, 2, 3), keepdim=True)) / v.std((1, 2, 3), keepdim=True)
    shift = torch.exp2(torch.round(torch.log2(standard.detach().abs().mean((1, 2, 3), keepdim=True))))
    torch.testing.assert_close(value, shift * BF.sign(standard.detach()))
    k, t = BF.ede_schedule(0.0)
    (expected,) = torch.autograd.grad(
        standard, v, upstream * shift * k * t * (1 - torch.tanh(t * standard.detach()) ** 2)
    )
    torch.testing.assert_close(gradient, expected)


def test_bnn_weight_has_no_scale_and_the_identity_gradient() -> None:
    w = random_weight()
    upstream = torch.randn_like(w)
    value, gradient = value_and_gradient(WeightSpec(scale="none", estimator=IDENTITY), w * 3, upstream)
    assert torch.equal(value, BF.sign(w.detach()))
    assert torch.equal(gradient, upstream)


def test_ternary_weight() -> None:
    w = random_weight(5, 8)
    upstream = torch.randn_like(w)
    value, gradient = value_and_gradient(
        WeightSpec(kind="ternary", scale_over="layer", estimator=IDENTITY), w, upstream
    )
    codes, scale = BF.ternary_codes(w, "layer")
    torch.testing.assert_close(value, codes * scale)
    torch.testing.assert_close(gradient, upstream)


SPLIT = WeightSpec(kind="split", scale_over="layer", estimator=IDENTITY)


def test_split_weight_starts_as_the_ternary_one_and_trains_its_halves() -> None:
    w = random_weight(5, 8)
    binarizer = WeightBinarizer(SPLIT, w)
    value = binarizer(w).codes
    codes, scale = BF.ternary_codes(w, "layer")
    torch.testing.assert_close(value.detach(), codes * scale)
    upstream = torch.randn_like(value)
    value.backward(upstream)
    assert w.grad is None
    for half in (binarizer.first, binarizer.second):
        assert half.grad is not None
        torch.testing.assert_close(half.grad, upstream)


def test_an_untouched_split_merges_to_the_very_weight_and_a_trained_one_to_its_sum() -> None:
    w = torch.randn(6, 9)
    binarizer = WeightBinarizer(SPLIT, w)
    target = w.clone()
    binarizer.merge_into(target)
    assert torch.equal(target, w)
    with torch.no_grad():
        binarizer.first.add_(0.5)
    binarizer.merge_into(target)
    assert torch.equal(target, binarizer.first.detach() + binarizer.second.detach())


def test_split_of_a_frozen_weight_is_frozen() -> None:
    binarizer = WeightBinarizer(SPLIT, torch.nn.Parameter(torch.randn(3, 4), requires_grad=False))
    assert not any(p.requires_grad for p in binarizer.parameters())


@pytest.mark.parametrize("kind", ["binary", "ternary"])
@pytest.mark.parametrize("scale", ["mean_abs", "power_of_two"])
@pytest.mark.parametrize("over", ["layer", "filter"])
@pytest.mark.parametrize("transform", ["none", "centre", "standardize"])
def test_rows_of_a_table_get_what_they_have_in_the_whole_table(
    kind: str, scale: str, over: str, transform: str
) -> None:
    table = torch.randn(12, 5, dtype=torch.float64)
    spec = WeightSpec.model_validate(
        {"kind": kind, "scale": scale, "scale_over": over, "over": over, "transform": transform}
    )
    binarizer = WeightBinarizer(spec, table)
    whole, rows = binarizer(table), binarizer(table[3:7], table)
    assert torch.equal(rows.codes, whole.codes[3:7])
    assert whole.scale is not None
    assert rows.scale is not None
    torch.testing.assert_close(rows.scale.expand(4, 1), whole.scale.expand(12, 1)[3:7], rtol=1e-12, atol=0)


@pytest.mark.parametrize("gradient", ["straight", "constant", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_all_zero_filters_have_codes_plus_one_and_a_finite_gradient(gradient: str, dtype: torch.dtype) -> None:
    w = torch.zeros(2, 4, dtype=dtype, requires_grad=True)
    binarizer = WeightBinarizer(WeightSpec.model_validate({"scale_gradient": gradient}), w.detach())
    codes, scale, *_ = binarizer(w)
    assert torch.equal(codes, torch.ones(2, 4, dtype=dtype))
    assert scale is not None
    (codes * scale).sum().backward()
    assert w.grad is not None
    assert bool(w.grad.isfinite().all())
    assert bool((w.grad > 0).all())


def test_all_zero_filters_of_irnet_train() -> None:
    w = torch.zeros(2, 4, requires_grad=True)
    spec = WeightSpec(
        transform="standardize", scale="power_of_two", scale_gradient="constant", estimator=EstimatorSpec(name="ede")
    )
    codes, scale, *_ = WeightBinarizer(spec, w.detach())(w)
    assert scale is not None
    upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 2)
    (codes * scale).backward(upstream)
    assert w.grad is not None
    # k t = 1 at the start; the gradient through the mean subtracts its own mean.
    torch.testing.assert_close(w.grad, upstream - upstream.mean(1, keepdim=True))


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("none", [[3.0, -0.5, -1.0], [0.25, 0.25, 0.25]]),
        ("clip", [[1.0, -0.5, -1.0], [0.25, 0.25, 0.25]]),
        ("centre_clip", [[1.0, -1.0, -1.0], [0.0, 0.0, 0.0]]),
    ],
)
def test_constraints(constraint: str, expected: list[list[float]]) -> None:
    w = torch.tensor([[3.0, -0.5, -1.0], [0.25, 0.25, 0.25]], requires_grad=True)
    WeightBinarizer(WeightSpec.model_validate({"constraint": constraint}), w.detach()).constrain(w)
    assert w.tolist() == expected


def test_centre_clip_centres_each_tap_over_the_input_channels() -> None:
    w = torch.randn(2, 3, 3, 3) * 0.1
    expected = (w - w.mean(1, keepdim=True)).clamp(-1, 1)
    WeightBinarizer(WeightSpec(constraint="centre_clip"), w).constrain(w)
    assert torch.equal(w, expected)


def test_weights_that_need_no_gradient_get_none() -> None:
    w = torch.randn(3, 4)
    for spec in (WeightSpec(), WeightSpec(scale_gradient="full"), WeightSpec(kind="ternary")):
        assert WeightBinarizer(spec, w)(w).codes.grad_fn is None


def test_a_scale_is_never_nan_for_one_element_a_filter() -> None:
    w = torch.randn(4, 1, requires_grad=True)
    for spec in (
        WeightSpec(),
        WeightSpec(transform="centre"),
        WeightSpec(transform="standardize", scale="power_of_two"),
    ):
        codes, scale, *_ = WeightBinarizer(spec, w.detach())(w)
        assert scale is not None
        assert math.isfinite(float((codes * scale).detach().sum()))

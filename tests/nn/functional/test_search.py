from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.errors import BinarizeError
from bnnapps.nn import BinaryConv2d, BinaryLinear, ConvSpec, EmbeddingSpec, LinearSpec, WeightBinarizer, WeightSpec
from bnnapps.nn import functional as BF

SEARCH = WeightSpec(transform="search", scale="learned")
AMPLITUDE = WeightSpec(scale="amplitude")


def test_expectation_is_the_difference_of_the_two_odds() -> None:
    logits = torch.tensor([[0.0, 1.0, -2.0, 30.0], [0.0, 1.5, 2.0, -30.0]], dtype=torch.float64, requires_grad=True)
    odds = torch.softmax(logits, dim=0)
    found = BF.expected_sign(logits)
    torch.testing.assert_close(found, odds[1] - odds[0])
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    half = (1 - found.detach().square()) / 2
    torch.testing.assert_close(gradient, torch.stack([-half, half]))


def test_a_search_from_the_weight_begins_at_its_signs() -> None:
    w = torch.randn(4, 3, 3, 3)
    logits = BF.search_logits(w, "weight")
    assert torch.equal(BF.sign(logits[1] - logits[0]), BF.sign(w))
    torch.testing.assert_close(BF.expected_sign(logits), torch.tanh(w / w.abs().mean((1, 2, 3), keepdim=True)))
    assert bool(BF.search_logits(torch.zeros(2, 3), "weight").isfinite().all())


def test_a_random_search_draws_from_the_normal_law() -> None:
    torch.manual_seed(0)
    logits = BF.search_logits(torch.zeros(100, 100), "random")
    assert logits.shape == (2, 100, 100)
    assert float(logits.mean()) == pytest.approx(0, abs=0.03)
    assert float(logits.std()) == pytest.approx(1, abs=0.03)


def test_a_learned_scale_follows_the_product_rule() -> None:
    codes = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    alpha = (torch.rand(3, 1, dtype=torch.float64) + 0.5).requires_grad_()
    upstream = torch.randn(3, 5, dtype=torch.float64)
    (BF.learned_scale(codes, alpha) * alpha.detach()).backward(upstream)
    found = codes.grad, alpha.grad
    expected = torch.autograd.grad(codes * alpha, (codes, alpha), upstream)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("a", [[1.5], [-0.7]])
def test_gradient_of_the_shared_amplitude_is_the_documented_formula(a: list[float]) -> None:
    u, p = 0.02, 1e-1
    w = torch.tensor([[0.3, -0.2, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    amplitude = torch.tensor([a], dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(1, 4, dtype=torch.float64)
    codes = BF.shared_amplitude(w, amplitude, u, p)
    assert codes.tolist() == [[1, -1, 1, 1]]
    size = abs(a[0])
    (codes * u * size).backward(upstream)
    value, signs = w.detach(), codes.detach()
    apart = value - u * size * signs
    torch.testing.assert_close(w.grad, size * upstream + p * apart)
    slope = (upstream * value).sum() - p * u * (apart * signs).sum()
    assert amplitude.grad is not None
    assert float(amplitude.grad) == pytest.approx(float(slope) * (1 if a[0] > 0 else -1))


def test_without_a_loss_the_pull_alone_moves_both_weights_together() -> None:
    torch.manual_seed(0)
    w = (0.02 * torch.randn(2, 50, dtype=torch.float64)).requires_grad_()
    amplitude = torch.tensor([[1.0], [-3.0]], dtype=torch.float64, requires_grad=True)

    def apart() -> float:
        return float((w - BF.sign(w) * 0.02 * amplitude.abs()).detach().square().sum())

    before = apart()
    for _ in range(50):
        codes = BF.shared_amplitude(w, amplitude, pull=1.0)
        (codes * 0).sum().backward()
        with torch.no_grad():
            for value in (w, amplitude):
                value -= 0.1 * value.grad
                value.grad = None
    assert apart() < 0.01 * before


def test_training_multiplies_expectations_and_evaluation_the_likelier_signs() -> None:
    binarizer = WeightBinarizer(SEARCH, torch.randn(4, 6))
    weight = torch.randn(4, 6)
    trained, scale, kind, *_ = binarizer(weight)
    torch.testing.assert_close(trained, BF.expected_sign(binarizer.logits))
    assert kind == "real"
    assert not binarizer.gives_signs
    binarizer.eval()
    codes, deployed, kind, *_ = binarizer(weight)
    assert torch.equal(codes, BF.sign(binarizer.logits[1] - binarizer.logits[0]))
    assert kind == "sign"
    assert binarizer.gives_signs
    torch.testing.assert_close(scale, deployed)
    with torch.no_grad():
        binarizer.logits.copy_(torch.zeros_like(binarizer.logits))
    assert bool((binarizer(weight).codes == 1).all())  # a tie is +1


@pytest.mark.parametrize("spec", [SEARCH, SEARCH.model_copy(update={"scale": "mean_abs"})])
def test_a_layer_has_the_gradient_of_its_float_twin_with_scaled_codes(spec: WeightSpec) -> None:
    torch.manual_seed(1)
    layer = BinaryConv2d(3, 4, 3, bias=False, spec=ConvSpec(weight=spec, activation=None)).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    upstream = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    layer(x).backward(upstream)
    part = layer.binary.weight
    assert part is not None
    parameters = dict(part.named_parameters())
    expected = {n: p.detach().clone().requires_grad_() for n, p in parameters.items()}
    scale = expected.get("learned.amplitude", layer.weight.detach().abs().mean((1, 2, 3), keepdim=True))
    values = scale * BF.expected_sign(expected["logits"])
    nn.functional.conv2d(x, values).backward(upstream)
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter.grad, expected[name].grad)
    assert layer.weight.grad is None  # the weight rests


def test_scales_and_logits_are_made_anew_from_a_float_checkpoint() -> None:
    spec = LinearSpec(weight=SEARCH.model_copy(update={"search_start": "weight"}))
    layer = BinaryLinear(6, 4, spec=spec)
    weight = 3 * torch.randn(4, 6)
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(4)})
    part = layer.binary.weight
    assert part is not None
    assert part.learned is not None
    torch.testing.assert_close(part.learned.amplitude.detach(), weight.abs().mean(1, keepdim=True))
    assert torch.equal(BF.sign(part.logits[1] - part.logits[0]), BF.sign(weight))


def test_a_learned_scale_stays_positive_and_an_amplitude_keeps_its_sign() -> None:
    for spec, expected in ((SEARCH, 1e-5), (AMPLITUDE, -1.0)):
        layer = BinaryLinear(6, 4, spec=LinearSpec(weight=spec))
        learned = layer.binary.weight.learned  # type: ignore[union-attr]
        assert learned is not None
        with torch.no_grad():
            learned.amplitude.fill_(-1.0)
        bnnapps.apply_constraints(layer)
        assert bool((learned.amplitude == expected).all())
        assert bool((learned.scale() > 0).all())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"transform": "search", "kind": "ternary"},
            "kind is 'ternary', and transform 'search' is for weights of kind",
        ),
        ({"scale": "learned", "kind": "split"}, "kind is 'split', and scale 'learned' is for"),
        ({"scale": "amplitude", "scale_over": "layer"}, "scale 'amplitude' is one number a filter"),
        ({"scale": "amplitude", "transform": "centre"}, "transform must be 'none', not 'centre'"),
        ({"transform": "search", "scale": "affine"}, "transform 'search' goes with a plain scale"),
        ({"transform": "search", "noise": True}, "transform 'search' goes with a plain scale"),
    ],
)
def test_parts_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightSpec(**fields)


def test_a_table_has_no_searched_rows() -> None:
    with pytest.raises(ValueError, match="transform is 'search', which only layers have"):
        EmbeddingSpec(weight=SEARCH)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    rule = Rule(types=["embedding"], use={"method": "lwsdet", "weight.scale": "learned"})
    with pytest.raises(BinarizeError, match="scale is 'learned', which only layers have"):
        bnnapps.binarize(model, [rule], keep_first=0)


def layers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 2))


@pytest.mark.parametrize("method", ["lwsdet", "asda"])
def test_bits_are_counted_once_and_what_only_trains_not_at_all(method: str) -> None:
    model = bnnapps.binarize(layers(), method, keep_first=1, keep_last=1)
    row = bnnapps.summarize(model.eval(), torch.randn(1, 3, 6, 6))
    assert row.params_1bit == 8 * 8 * 9
    assert row.params_float == 3 * 8 * 9 + 8 + 16 + 8 + 8 + 32 * 2 + 2  # one learned scale a filter
    assert row.packed_bytes == 8 * 8 * 9 // 8 + 4 * row.params_float


@pytest.mark.parametrize("method", ["lwsdet", "asda"])
def test_logits_are_latent_and_scales_are_parts_without_decay(method: str) -> None:
    from bnnapps.optim.groups import parameter_kinds

    model = bnnapps.binarize(layers(), method)
    kinds = {name: kind for name, _, kind in parameter_kinds(model)}
    assert kinds["2.binary.weight.learned.amplitude"] == "parts"
    assert kinds["2.weight"] == "latent"
    assert kinds.get("2.binary.weight.logits") == ("latent" if method == "lwsdet" else None)


def random_signs(w: Tensor) -> Tensor:
    return BF.sign(torch.randn_like(w))


def test_the_search_finds_better_signs_than_the_signs_of_the_weight() -> None:
    """The error of layer outputs: searched < sign(W) << random (LWS-Det, 2021), by construction."""
    torch.manual_seed(0)
    x = BF.sign(torch.randn(512, 24))
    w = torch.randn(8, 24)
    target = torch.tanh(x) @ w.T + 0.5 * x[:, :8]
    spec = LinearSpec(weight=SEARCH.model_copy(update={"search_start": "weight"}))
    layer = BinaryLinear(24, 8, bias=False, spec=spec)
    layer.load_state_dict({"weight": w})

    def error(signs: Tensor) -> float:
        codes = x @ signs.T
        alpha = (codes * target).sum(0) / codes.square().sum(0)
        return float((target - alpha * codes).square().mean())

    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        optimizer.step()
    part = layer.binary.weight
    assert part is not None
    searched = BF.sign(part.logits[1] - part.logits[0]).detach()
    assert error(searched) < error(BF.sign(w))
    assert error(BF.sign(w)) < 0.7 * error(random_signs(w))

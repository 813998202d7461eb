"""Learned slopes, and activations of two signs (BiFSMNv2), against closed forms and the float layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.errors import BinarizeError
from bnnapps.methods import get_method
from bnnapps.nn import ActivationBinarizer, BinaryConv2d, BinaryLinear
from bnnapps.nn import functional as BF
from bnnapps.nn.estimator import SignEstimator
from bnnapps.nn.layers import BinaryConv1d
from bnnapps.nn.spec import ActivationSpec, EstimatorSpec

LAYERS = get_method("bifsmnv2").layers


def moved(layer: Any) -> Any:
    """With parts that are somewhere."""
    with torch.no_grad():
        for parameter in layer.binary.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return layer


def straight(x: Tensor, slope: Tensor) -> Tensor:
    """sign(x) with the gradient of clip(a x, -1, 1), by autograd."""
    smooth = (slope * x).clamp(-1, 1)
    return smooth + (BF.sign(x) - smooth).detach()


def test_the_slope_gets_the_sum_over_what_lies_within_its_window() -> None:
    x = torch.tensor([-3.0, -0.5, -0.0, 0.25, 0.5, 0.75], requires_grad=True)
    slope = torch.tensor([2.0], requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    y = BF.sign_lpb(x, slope)
    assert y.tolist() == [-1, -1, 1, 1, 1, 1]
    y.backward(upstream)
    assert x.grad is not None
    assert slope.grad is not None
    assert x.grad.tolist() == [0, 4, 6, 8, 10, 0]
    assert slope.grad.tolist() == [-0.5 * 2 + 0.25 * 4 + 0.5 * 5]


def test_a_slope_stays_positive_and_no_module_has_one_that_does_not_ask() -> None:
    estimator = SignEstimator(EstimatorSpec(name="lpb"))
    assert estimator.slope.tolist() == [1]
    with torch.no_grad():
        estimator.slope.fill_(-2)
    estimator.constrain()
    assert estimator.slope.item() > 0
    assert not list(SignEstimator(EstimatorSpec()).parameters())
    with pytest.raises(ValueError, match="keep_bits is for a multiplier that follows from x alone"):
        EstimatorSpec(name="lpb", keep_bits=2)


@pytest.mark.parametrize(("shape", "channel_dim"), [((5, 6), -1), ((2, 3, 6), -1), ((3, 6, 7), -2), ((2, 6, 4, 5), -3)])
def test_an_activation_of_two_signs_is_the_published_formula(shape: tuple[int, ...], channel_dim: int) -> None:
    torch.manual_seed(0)
    spec = LAYERS["conv"].activation  # type: ignore[union-attr]
    binarizer = ActivationBinarizer(spec, 6, channel_dim)
    with torch.no_grad():
        for parameter in binarizer.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
    second = binarizer.second
    assert second is not None
    learned = [binarizer.shift, second.shift, binarizer.offset, binarizer.estimator.slope, second.estimator.slope]
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(shape)
    values = binarizer(x).values()
    found = torch.autograd.grad((values * weight).sum(), [x, *learned])

    t0, t1, t2 = (t.view([-1] + [1] * (-1 - channel_dim)) for t in learned[:3])
    first = straight(x + t0, learned[3])
    rest = x - first + t1
    dims = -1 if channel_dim == -1 else tuple(range(1, x.dim()))
    expected = first + rest.detach().abs().mean(dim=dims, keepdim=True) * straight(rest, learned[4]) + t2
    torch.testing.assert_close(values, expected)
    for ours, theirs in zip(found, torch.autograd.grad((expected * weight).sum(), [x, *learned]), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_two_signs_are_closer_than_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 64)
    two = ActivationBinarizer(LAYERS["linear"].activation, 64)  # type: ignore[union-attr]
    one = ActivationBinarizer(ActivationSpec(), 64)
    assert (two(x).values() - x).square().mean() < 0.5 * (one(x).values() - x).square().mean()


CONVOLUTIONS: list[tuple[Any, tuple[int, ...], dict[str, Any], tuple[int, ...]]] = [
    (BinaryConv1d, (4, 6, 5), {"groups": 2, "stride": 2}, (2, 4, 17)),
    (BinaryConv1d, (6, 6, 5), {"groups": 6, "bias": False}, (2, 6, 8)),
    (BinaryConv1d, (4, 6, 1), {}, (4, 9)),
    (BinaryConv2d, (4, 6, 3), {"padding": 1, "stride": 2}, (2, 4, 7, 6)),
    (BinaryConv2d, (4, 6, 3), {"padding": 1, "padding_mode": "circular"}, (2, 4, 5, 5)),
    (BinaryConv2d, (4, 6, 3), {"padding": "same", "dilation": 2}, (1, 4, 5, 5)),
]


@pytest.mark.parametrize(("kind", "sizes", "options", "shape"), CONVOLUTIONS)
def test_a_convolution_is_that_of_the_values(
    kind: Any, sizes: tuple[int, ...], options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    layer = moved(kind(*sizes, **options, spec=LAYERS["conv"]))
    plain = kind.replaces(*sizes, **options)
    x = torch.randn(shape)
    with torch.no_grad():
        plain.load_state_dict({k: v for k, v in layer.state_dict().items() if not k.startswith("binary.")})
        plain.weight.copy_(layer.binary.deployed(layer.weight))
        torch.testing.assert_close(layer(x), plain(layer.binary.activation(x).values()))


def test_a_border_of_codes_stands_around_both_signs_and_not_around_the_constant() -> None:
    torch.manual_seed(0)
    spec = LAYERS["conv"].model_copy(update={"pad_value": 1})
    layer = moved(BinaryConv2d(2, 3, 3, padding=1, bias=False, spec=spec))  # type: ignore[arg-type]
    x = torch.randn(2, 2, 4, 4)
    codes = layer.binary.activation(x)
    maps = F.pad(codes.codes, [1] * 4, value=1.0) + codes.rest.scale * F.pad(codes.rest.codes, [1] * 4, value=1.0)
    maps = maps + F.pad(codes.rest.rest.codes.expand(1, 2, 4, 4), [1] * 4)
    torch.testing.assert_close(layer(x), F.conv2d(maps, layer.binary.deployed(layer.weight)))


def test_a_linear_layer_and_all_its_gradients() -> None:
    torch.manual_seed(0)
    layer = moved(BinaryLinear(6, 3, spec=LAYERS["linear"]))  # type: ignore[arg-type]
    x = torch.randn(5, 6, requires_grad=True)
    values = layer.binary.activation(x).values()
    alpha = layer.weight.detach().abs().mean(dim=1, keepdim=True)
    slope = layer.binary.weight.estimator.slope
    expected = values @ (alpha * straight(layer.weight, slope)).t() + layer.bias
    torch.testing.assert_close(layer(x), expected)
    upstream = torch.randn(5, 3)
    shifts = [layer.binary.activation.shift, layer.binary.activation.offset, layer.binary.activation.second.shift]
    ours = torch.autograd.grad((layer(x) * upstream).sum(), [x, *shifts, layer.weight], retain_graph=True)
    theirs = torch.autograd.grad((expected * upstream).sum(), [x, *shifts, layer.weight])
    for found, wanted in zip(ours[:-1], theirs[:-1], strict=True):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(ours[-1] * alpha, theirs[-1])  # scale_gradient: straight


def test_two_products_are_counted_and_the_constant_is_none() -> None:
    model = nn.Sequential(nn.Conv1d(4, 4, 1), nn.Conv1d(4, 6, 3, padding=1), nn.Flatten(), nn.Linear(42, 2))
    bnnapps.binarize(model, "bifsmnv2")
    row = next(row for row in bnnapps.summarize(model, torch.randn(1, 4, 7)).layers if row.name == "1")
    assert row.bops == 2 * 7 * 6 * 12
    assert row.flops == 0


@pytest.mark.parametrize("model", [nn.LSTM(3, 4), nn.ConvTranspose1d(3, 4, 2)])
def test_other_layers_say_that_they_take_one_set_of_codes(model: nn.Module) -> None:
    kind = "lstm" if isinstance(model, nn.LSTM) else "conv_transpose1d"
    with pytest.raises(BinarizeError, match=r"multiplies with one set of codes, but activation\.scale is 'dual'"):
        bnnapps.plan(nn.Sequential(model), [Rule(types=[kind], use="bifsmnv2")], keep_first=0, keep_last=0)


@pytest.mark.parametrize("field", [{"unsigned": True}, {"standardize": "sample"}, {"bits": 2}, {"noise": True}])
def test_what_does_not_go_with_two_signs(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="dual"):
        ActivationSpec(scale="dual", **field)

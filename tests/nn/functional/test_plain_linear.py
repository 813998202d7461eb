"""The gradients of Bi-GCN: of a product's input without the scales, and of codes of which some are dropped."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from bnnapps.methods import get_method
from bnnapps.nn import ActivationBinarizer, ActivationSpec, BinaryLinear, ConvSpec, LinearSpec, WeightSpec
from bnnapps.nn import functional as BF

BIGCN = get_method("bigcn").layers["linear"]


def operands(rows: int = 5, into: int = 7, out: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(rows, into, dtype=torch.float64), torch.randn(out, into, dtype=torch.float64)


@pytest.mark.parametrize("integers", [(False, False), (True, True)])
def test_the_input_gets_the_gradient_without_the_scale(integers: tuple[bool, bool]) -> None:
    x, w = (BF.sign(t).requires_grad_() for t in operands())
    scale = torch.rand(5, 3, dtype=torch.float64) + 0.5
    y = BF.plain_linear(x, w, scale, integers)
    assert torch.allclose(y, scale * (x @ w.T))
    grad = torch.randn_like(y)
    y.backward(grad)
    assert torch.allclose(x.grad, grad @ w)
    assert torch.allclose(w.grad, (grad * scale).T @ x)


def test_without_a_scale_it_is_a_linear_layer() -> None:
    x, w = (t.requires_grad_() for t in operands())
    y = BF.plain_linear(x, w, None)
    grad = torch.randn_like(y)
    y.backward(grad)
    assert torch.allclose(x.grad, grad @ w)
    assert torch.allclose(w.grad, grad.T @ x)


def layer_of(dropout: float = 0.0) -> BinaryLinear:
    torch.manual_seed(1)
    spec = BIGCN.model_copy(update={"activation": BIGCN.activation.model_copy(update={"dropout": dropout})})
    layer = BinaryLinear(7, 3, bias=False, spec=spec).double()
    with torch.no_grad():
        layer.weight.mul_(4)  # so that some lie outside of the window
    return layer


def test_forward_and_backward_of_a_layer_are_those_of_the_released_code() -> None:
    layer, (x, _) = layer_of(), operands()
    x.requires_grad_()
    w = layer.weight.detach()
    y = layer(x)
    alpha, k = w.abs().mean(1), x.detach().abs().mean(1, keepdim=True)
    scaled = k * BF.sign(x.detach())
    assert torch.allclose(y, scaled @ (alpha[:, None] * BF.sign(w)).T)
    grad = torch.randn_like(y)
    y.backward(grad)
    assert torch.allclose(x.grad, (grad @ BF.sign(w)) * (x.detach().abs() <= 1))
    outer = grad.T @ scaled
    share = (outer * BF.sign(w)).mean(1, keepdim=True)
    assert torch.allclose(layer.weight.grad, alpha[:, None] * (w.abs() <= 1) * outer + BF.sign(w) * share)


def test_training_and_evaluation_compute_the_same() -> None:
    layer, (x, _) = layer_of(), operands()
    trained = layer(x)
    with torch.no_grad():
        assert torch.equal(layer.eval()(x), trained)


def test_scaled_is_the_chain_rule() -> None:
    torch.manual_seed(1)
    layer = BinaryLinear(7, 3, bias=False, spec=BIGCN.model_copy(update={"input_gradient": "scaled"})).double()
    x = operands()[0].requires_grad_()
    y = layer(x)
    grad = torch.randn_like(y)
    y.backward(grad)
    alpha, k = layer.weight.detach().abs().mean(1), x.detach().abs().mean(1, keepdim=True)
    expected = k * (grad @ (alpha[:, None] * BF.sign(layer.weight.detach()))) * (x.detach().abs() <= 1)
    assert torch.allclose(x.grad, expected)


def test_dropped_codes_are_zero_and_the_others_larger() -> None:
    binarizer = ActivationBinarizer(ActivationSpec(scale="input_map", dropout=0.25), 1000)
    x = torch.randn(40, 1000, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    codes = binarizer(x)
    assert set(codes.codes.detach().unique().tolist()) == {-4 / 3, 0.0, 4 / 3}
    assert float((codes.codes == 0).double().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(codes.scale, x.detach().abs().mean(1, keepdim=True))
    codes.codes.sum().backward()
    inside = x.detach().abs() <= 1
    assert torch.equal(x.grad, 4 / 3 * ((codes.codes != 0) & inside).double())
    with torch.no_grad():
        assert torch.equal(binarizer.eval()(x).codes, BF.sign(x))


def test_a_layer_drops_in_training_alone() -> None:
    layer, (x, _) = layer_of(dropout=0.5), operands()
    torch.manual_seed(0)
    one, two = layer(x), layer(x)
    assert not torch.equal(one, two)
    whole = layer.eval()(x)
    assert torch.equal(whole, layer_of().eval()(x))
    layer.train()
    mean = torch.stack([layer(x).detach() for _ in range(2000)]).mean(0)
    assert torch.allclose(mean, whole.detach(), atol=0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActivationSpec(dropout=0.1, scale="elastic"), "dropout drops plain signs, but scale is 'elastic'"),
        (lambda: ActivationSpec(dropout=0.1, noise=True), "dropout drops plain signs, but noise is true"),
        (lambda: ActivationSpec(dropout=1.0), "less than 1"),
        (lambda: LinearSpec(weight=None, input_gradient="plain"), "but weight stays real"),
        (lambda: LinearSpec(activation=None, input_gradient="plain"), "but activation stays real"),
        (lambda: LinearSpec(weight=WeightSpec(scale="affine"), input_gradient="plain"), "weight.scale is 'affine'"),
        (lambda: ConvSpec(input_gradient="plain"), "only linear layers have"),
    ],
)
def test_what_does_not_go_together_is_refused(make, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from memory import kept_bytes
from torch import Tensor, nn

from bnnapps.nn import ActivationSpec, BinaryLinear, LinearSpec, WeightSpec
from bnnapps.nn import functional as BF

PLAIN = LinearSpec(weight=WeightSpec(scale="none"), activation=ActivationSpec())
REAL = LinearSpec(weight=None, activation=None)
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
SHAPES = [(6, 9), (9,), (2, 3, 9), (0, 9)]


def signs(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randint(0, 2, shape) * 2 - 1).to(dtype)


def twin_of(layer: nn.Linear, spec: LinearSpec | None = None) -> BinaryLinear:
    bias = layer.bias is not None
    twin = BinaryLinear(layer.in_features, layer.out_features, bias, layer.weight.device, layer.weight.dtype, spec=spec)
    twin.load_state_dict(layer.state_dict())
    return twin


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spec", [None, PLAIN], ids=["scaled", "plain"])
def test_equals_the_float_layer_on_signs(
    shape: tuple[int, ...], bias: bool, dtype: torch.dtype, spec: LinearSpec | None
) -> None:
    layer = nn.Linear(9, 5, bias=bias, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(signs(5, 9))
        if bias:
            layer.bias.copy_(torch.round(layer.bias * 8) / 8)  # sums of such numbers are exact in any order
    x = signs(*shape, dtype=dtype)
    twin = twin_of(layer, spec)
    assert torch.equal(twin(x), layer(x))
    with torch.no_grad():
        assert torch.equal(twin(x), layer(x))


@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_formula_on_real_numbers(bias: bool) -> None:
    layer = nn.Linear(9, 5, bias=bias, dtype=torch.float64)
    x = torch.randn(6, 9, dtype=torch.float64)
    w = layer.weight.detach()
    alpha = w.abs().mean(1)
    expected = BF.sign(x) @ BF.sign(w).t() * alpha + (layer.bias if bias else 0)
    torch.testing.assert_close(twin_of(layer)(x), expected)


@pytest.mark.parametrize(
    ("spec", "left", "right"),
    [
        (REAL, False, False),
        (LinearSpec(weight=None), True, False),
        (LinearSpec(activation=None), False, True),
    ],
    ids=["both real", "real weight", "real activation"],
)
def test_a_real_operand_stays_real(spec: LinearSpec, left: bool, right: bool) -> None:
    layer = nn.Linear(9, 5, dtype=torch.float64)
    twin = twin_of(layer, spec)
    x = torch.randn(6, 9, dtype=torch.float64, requires_grad=True)
    w = layer.weight
    xb = BF.sign(x) if left else x
    wb = BF.sign(w) * w.detach().abs().mean(1, keepdim=True) if right else w
    torch.testing.assert_close(twin(x), F.linear(xb, wb, layer.bias))
    twin(x).sum().backward()
    assert x.grad is not None
    assert twin.weight.grad is not None


def test_gradients_of_both_operands() -> None:
    layer = nn.Linear(9, 5, dtype=torch.float64)
    twin = twin_of(layer)
    x = torch.randn(6, 9, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(6, 5, dtype=torch.float64)
    twin(x).backward(upstream)
    w, a = layer.weight.detach(), x.detach()
    alpha = w.abs().mean(1, keepdim=True)
    assert x.grad is not None
    assert twin.weight.grad is not None
    torch.testing.assert_close(x.grad, (a.abs() <= 1) * (upstream @ (alpha * BF.sign(w))))
    torch.testing.assert_close(twin.weight.grad, (w.abs() <= 1) * (upstream.t() @ BF.sign(a)))
    assert twin.bias.grad is not None
    torch.testing.assert_close(twin.bias.grad, upstream.sum(0))


def test_defect_1_the_shift_reaches_the_forward_pass() -> None:
    spec = LinearSpec(activation=ActivationSpec(shift="channel"))
    twin = BinaryLinear(9, 5, spec=spec)
    x = torch.randn(6, 9)
    before = twin(x)
    with torch.no_grad():
        twin.binary.activation.shift.fill_(100.0)
    assert not torch.equal(twin(x), before)
    assert torch.equal(twin(x), twin(torch.ones(6, 9)))
    with torch.no_grad():
        twin.bias.add_(50.0)
    torch.testing.assert_close(twin(x) - 50, twin(torch.ones(6, 9)) - 50)


def test_defect_8_an_input_of_zeros_counts_as_plus_one() -> None:
    twin = BinaryLinear(9, 5, bias=False)
    assert torch.equal(twin(torch.zeros(2, 9)), twin(torch.ones(2, 9)))
    assert torch.equal(twin(torch.relu(-torch.rand(2, 9))), twin(torch.ones(2, 9)))
    spec = LinearSpec(weight=WeightSpec(scale="none"))
    odd = BinaryLinear(9, 5, bias=False, spec=spec)
    assert bool((odd(torch.zeros(2, 9)) != 0).all())  # a sum of nine signs is odd


def test_xnor_scales_each_row_by_its_mean_magnitude() -> None:
    layer = nn.Linear(9, 5, dtype=torch.float64)
    twin = twin_of(layer, LinearSpec(activation=ActivationSpec(scale="input_map")))
    x = torch.randn(2, 6, 9, dtype=torch.float64)
    w = layer.weight.detach()
    expected = F.linear(BF.sign(x), BF.sign(w)) * w.abs().mean(1) * x.abs().mean(-1, keepdim=True) + layer.bias
    torch.testing.assert_close(twin(x), expected)


def test_the_product_of_codes_is_exact_whatever_the_scale() -> None:
    twin = BinaryLinear(64, 8, bias=False)
    x = torch.randn(100, 64)
    integers = F.linear(BF.sign(x), BF.sign(twin.weight.detach()))
    assert torch.equal(twin(x) == 0, integers == 0)
    assert int((integers == 0).sum()) > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_result_has_the_dtype_of_the_float_layer(dtype: torch.dtype) -> None:
    twin = BinaryLinear(300, 4, dtype=dtype)
    x = torch.randn(3, 300, dtype=dtype)
    with torch.no_grad():
        assert twin(x).dtype == dtype
    assert twin(x).dtype == dtype


def test_short_types_multiply_exactly_without_gradients() -> None:
    twin = BinaryLinear(1001, 4, bias=False, dtype=torch.bfloat16, spec=PLAIN)
    x = signs(1, 1001, dtype=torch.bfloat16)
    exact = F.linear(x.double(), BF.sign(twin.weight.detach()).double())
    with torch.no_grad():
        assert torch.equal(twin(x), exact.bfloat16())


@pytest.mark.parametrize("train", [True, False])
def test_autocast(train: bool) -> None:
    twin = BinaryLinear(16, 4)
    x = torch.randn(3, 16, requires_grad=True)
    expected = twin(x)
    with torch.set_grad_enabled(train), torch.autocast("cpu", dtype=torch.bfloat16):
        found = twin(x)
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)
    if train:
        found.float().sum().backward()
        assert twin.weight.grad is not None
        assert twin.weight.grad.dtype == torch.float32
        assert x.grad is not None
        assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("autocast", [False, True])
def test_training_keeps_a_small_part_of_what_the_float_layer_keeps(autocast: bool) -> None:
    layer = nn.Linear(256, 256)
    twin = twin_of(layer, PLAIN)
    x = torch.randn(64, 256, requires_grad=True) * 2

    def kept(module: nn.Module) -> int:
        def forward() -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                result: Tensor = module(x * 1)
            return result

        return kept_bytes(forward)

    assert kept(twin) <= kept(layer) / 4
    # one bit for each code of x, one for its window, one for each code of the weight
    assert kept(twin) <= (2 * 64 * 256 + 256 * 256) // 8 + 64


def test_a_frozen_weight_gets_no_gradient() -> None:
    twin = BinaryLinear(9, 5)
    twin.weight.requires_grad_(False)
    x = torch.randn(6, 9, requires_grad=True)
    twin(x).sum().backward()
    assert twin.weight.grad is None
    assert x.grad is not None


@pytest.mark.parametrize("options", [{"bias": False}, {"dtype": torch.float64}, {"device": "cpu"}, {}], ids=str)
def test_is_a_linear_layer_with_its_parameters(options: dict[str, Any]) -> None:
    layer, twin = nn.Linear(3, 4, **options), BinaryLinear(3, 4, **options)
    assert isinstance(twin, nn.Linear)
    assert list(twin.state_dict()) == list(layer.state_dict())
    for name, value in layer.named_parameters():
        other = twin.get_parameter(name)
        assert (other.shape, other.dtype, other.device) == (value.shape, value.dtype, value.device)


def test_deployed_weight_is_scale_times_code() -> None:
    twin = BinaryLinear(9, 5)
    w = twin.weight.detach()
    (deployed,) = twin.binary_tensors().values()
    torch.testing.assert_close(deployed, BF.sign(w) * w.abs().mean(1, keepdim=True))
    assert not deployed.requires_grad
    assert [v.unique().numel() for v in deployed] == [2] * 5

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from memory import kept_bytes
from torch import Tensor, nn

import bnnapps
from bnnapps.errors import BinarizeError
from bnnapps.nn import ActivationSpec, BinaryBilinear, LinearSpec, WeightSpec
from bnnapps.nn import functional as BF
from bnnapps.nn.layers.base import to_float
from bnnapps.nn.spec import OutputSpec

FIRST, SECOND, OUT = 6, 5, 3
by_shape = pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0,), (2, 0)], ids=str)


def pair(spec: LinearSpec | None = None, **options: Any) -> tuple[nn.Bilinear, Any]:
    options = {"dtype": torch.float64} | options
    layer = nn.Bilinear(FIRST, SECOND, OUT, **options)
    twin = BinaryBilinear(FIRST, SECOND, OUT, **options, spec=spec)
    twin.load_state_dict(layer.state_dict())
    return layer, twin


def inputs(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(*shape, FIRST, dtype=torch.float64), torch.randn(*shape, SECOND, dtype=torch.float64)


def by_loop(x1: Tensor, weight: Tensor, x2: Tensor, bias: Tensor | None) -> Tensor:
    """sum_ij x1_i W_oij x2_j + b_o for one row."""
    sums = [x1 @ weight[o] @ x2 for o in range(OUT)]
    return torch.stack(sums) + (0 if bias is None else bias)


@by_shape
@pytest.mark.parametrize("bias", [False, True])
def test_with_real_operands_it_is_the_float_layer(shape: tuple[int, ...], bias: bool) -> None:
    layer, twin = pair(LinearSpec(weight=None, activation=None), bias=bias)
    x = inputs(*shape)
    if shape:
        torch.testing.assert_close(twin(*x), layer(*x))
    else:
        torch.testing.assert_close(twin(*x), layer(*(t[None] for t in x))[0])


@by_shape
def test_equals_the_float_layer_on_signs(shape: tuple[int, ...]) -> None:
    layer, twin = pair(dtype=torch.float32, bias=False)
    for net in (layer, twin):
        net.weight.data.copy_(BF.sign(layer.weight))
    x = [BF.sign(t.float()) for t in inputs(*shape)]
    expected = layer(*(t.reshape(-1, t.shape[-1]) for t in x)).view(*shape, OUT)
    assert torch.equal(twin(*x), expected)
    with torch.no_grad():
        assert torch.equal(twin(*x), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_equals_the_formula_on_real_weights(bias: bool) -> None:
    layer, twin = pair(bias=bias)
    x1, x2 = inputs(4)
    w = layer.weight.detach()
    scaled = BF.sign(w) * w.abs().mean((1, 2), keepdim=True)
    for row in range(4):
        expected = by_loop(BF.sign(x1[row]), scaled, BF.sign(x2[row]), layer.bias)
        torch.testing.assert_close(twin(x1, x2)[row], expected)
    torch.testing.assert_close(twin.binary_tensors()["weight"], scaled)


def test_gradients_are_those_of_the_float_layer_of_the_codes() -> None:
    layer, twin = pair()
    twin.weight.data.mul_(4)
    (x1, x2), w = inputs(7), twin.weight.detach()
    ours = [x1.clone().requires_grad_(), x2.clone().requires_grad_()]
    codes = [BF.sign(t).requires_grad_() for t in (x1, x2)]
    layer.weight.data.copy_(BF.sign(w) * w.abs().mean((1, 2), keepdim=True))
    upstream = torch.randn(7, OUT, dtype=torch.float64)
    twin(*ours).backward(upstream)
    layer(*codes).backward(upstream)
    for real, own, code in zip((x1, x2), ours, codes, strict=True):
        assert own.grad is not None
        assert code.grad is not None
        torch.testing.assert_close(own.grad, (real.abs() <= 1) * code.grad)
    assert layer.weight.grad is not None
    assert not (w.abs() <= 1).all()
    torch.testing.assert_close(twin.weight.grad, (w.abs() <= 1) * layer.weight.grad)
    assert layer.bias is not None
    torch.testing.assert_close(twin.bias.grad, layer.bias.grad)


ACTIVATIONS = [
    ActivationSpec(scale="elastic", shift="channel"),
    ActivationSpec(bits=2, scale="elastic"),
    ActivationSpec(unsigned=True),
    ActivationSpec(scale="input_map"),
    ActivationSpec(scale="affine"),
    ActivationSpec(scale="uniform", bits=4),
]
WEIGHTS = [WeightSpec(), WeightSpec(scale="affine"), WeightSpec(kind="ternary"), WeightSpec(scale="none")]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("weight", WEIGHTS, ids=str)
@pytest.mark.parametrize("shape", [(4,), (2, 3)])
def test_it_is_the_float_layer_of_the_values(
    activation: ActivationSpec, weight: WeightSpec, shape: tuple[int, ...]
) -> None:
    layer, twin = pair(LinearSpec(weight=weight, activation=activation))
    x = inputs(*shape)
    twin.train()(*x)
    if activation.scale == "affine":
        twin.binary.activation1.beta.data.fill_(0.3)
        twin.binary.activation2.alpha.data.fill_(0.7)
    if activation.shift == "channel":
        assert twin.binary.activation1.shift.shape == (FIRST,)
        assert twin.binary.activation2.shift.shape == (SECOND,)
        twin.binary.activation1.shift.data.uniform_(-1, 1)
        twin.binary.activation2.shift.data.uniform_(-1, 1)
    twin.eval()
    values = twin.binary.activation1(x[0]).values(), twin.binary.activation2(x[1]).values()
    layer.weight.data.copy_(twin.binary_tensors()["weight"])
    torch.testing.assert_close(twin(*x), layer(*values))
    output = twin.train()(*x)
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert parameter.grad.any() or name.endswith(("low", "high")), name  # where nothing is clipped


def test_both_inputs_have_parts_of_their_own() -> None:
    _, twin = pair(LinearSpec(activation=ActivationSpec(scale="elastic")))
    x1, x2 = inputs(9)
    twin.train()(x1, 5 * x2)
    first, second = twin.binary.activation1.alpha, twin.binary.activation2.alpha
    torch.testing.assert_close(first.double(), 2 * x1.abs().mean().view(1))
    torch.testing.assert_close(second.double(), 10 * x2.abs().mean().view(1))
    with torch.no_grad():
        first.fill_(-1)
        second.fill_(-1)
    twin.constrain()
    assert first > 0
    assert second > 0


def test_constraints_split_weights_and_restoring() -> None:
    _, clipped = pair(LinearSpec(weight=WeightSpec(constraint="clip")))
    clipped.weight.data.mul_(100)
    clipped.constrain()
    assert float(clipped.weight.detach().abs().max()) == 1.0
    _, twin = pair(LinearSpec(weight=WeightSpec.model_validate({"kind": "split", "estimator": "identity"})))
    twin.binary.weight.first.data.add_(0.25)
    expected = twin.binary.weight.first + twin.binary.weight.second
    to_float(twin)
    assert type(twin) is nn.Bilinear
    assert torch.equal(twin.weight, expected)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies(how: Any) -> None:
    _, twin = pair(LinearSpec(activation=ActivationSpec(scale="elastic", shift="channel")))
    x = inputs(4)
    twin.train()(*x)
    assert torch.equal(how(twin.eval())(*x), twin(*x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_result_has_the_dtype_of_the_float_layer(dtype: torch.dtype) -> None:
    _, twin = pair(dtype=dtype)
    x = [t.to(dtype) for t in inputs(4)]
    assert twin(*x).dtype == dtype
    with torch.no_grad():
        assert twin(*x).dtype == dtype


def test_sums_stay_exact_in_short_types_when_evaluated() -> None:
    """515 * 511 codes: neither sum fits bfloat16, and the result is right to its last rounding."""
    twin = BinaryBilinear(
        515, 511, 1, bias=False, dtype=torch.bfloat16, spec=LinearSpec(weight=WeightSpec(scale="none"))
    )
    x1, x2 = torch.randn(3, 515).bfloat16(), torch.randn(3, 511).bfloat16()
    w = BF.sign(twin.weight[0].double())
    with torch.no_grad():
        exact = ((BF.sign(x1.double()) @ w) * BF.sign(x2.double())).sum(-1, keepdim=True)
        assert torch.equal(twin(x1, x2), exact.bfloat16())


def test_training_keeps_bits_of_codes() -> None:
    twin = BinaryBilinear(64, 256, 1, bias=False, spec=LinearSpec(weight=WeightSpec(scale="none")))
    x1, x2 = torch.randn(128, 64, requires_grad=True), torch.randn(128, 256, requires_grad=True)
    bits = (128 * 64 + 128 * 256 + 64 * 256) * 2 // 8  # codes, and where the estimators are not flat
    between = 4 * 128 * 64  # the sums of the first product, which the second multiplies
    assert kept_bytes(lambda: twin(x1 * 1, x2 * 1)) <= 1.1 * (bits + between)


def test_inputs_that_do_not_fit_are_refused() -> None:
    _, twin = pair()
    x1, x2 = inputs(4)
    with pytest.raises(ValueError, match=r"differ before their last dimension: \(4, 6\) and \(1, 5\)"):
        twin(x1, x2[:1])
    with pytest.raises(RuntimeError):
        twin(x1[:, :2], x2)


def test_what_has_no_place_is_refused() -> None:
    with pytest.raises(BinarizeError, match="a bilinear layer has no output scale"):
        pair(LinearSpec(output=OutputSpec()))
    model = nn.ModuleDict({"join": nn.Bilinear(2, 3, 4)})
    rules = [{"types": ["bilinear"], "use": {"method": "bnn", "gradient_bits": 6}}]
    with pytest.raises(BinarizeError, match="'join', a bilinear layer, has no rounded gradient"):
        bnnapps.plan(model, rules, keep_first=0, keep_last=0)

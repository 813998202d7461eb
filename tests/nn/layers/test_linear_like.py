from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import Linear as PyGLinear
from transformers.pytorch_utils import Conv1D

import bnnapps
from bnnapps.binarize.registry import type_of
from bnnapps.errors import BinarizeError
from bnnapps.methods import get_method, methods
from bnnapps.nn import BinaryLinear
from bnnapps.nn.functional import sign
from bnnapps.nn.layers import BinaryHFConv1D, BinaryPyGLinear

IN, OUT = 6, 4
KINDS: dict[str, tuple[Any, Any]] = {
    "hf.Conv1D": (lambda: Conv1D(OUT, IN), BinaryHFConv1D),
    "pyg.Linear": (lambda: PyGLinear(IN, OUT), BinaryPyGLinear),
}
METHODS = [m.name for m in methods() if "linear" in m.layers]
by_kind = pytest.mark.parametrize("kind", KINDS)
by_method = pytest.mark.parametrize("method", METHODS)


def built(kind: str) -> Any:
    layer = KINDS[kind][0]()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def rules(kind: str, method: str) -> dict[str, Any]:
    return {"rules": [{"types": [kind], "use": method}], "keep_first": 0, "keep_last": 0}


def binary(kind: str, method: str) -> Any:
    return bnnapps.binarize(nn.Sequential(built(kind)), rules(kind, method))


def matrix(layer: Any) -> Tensor:
    weight: Tensor = layer.weight
    return weight.t() if isinstance(layer, Conv1D) else weight


def oracle(layer: Any, spec: Any) -> BinaryLinear:
    """`BinaryLinear` with the same numbers."""
    same = BinaryLinear(IN, OUT, spec=spec)
    with torch.no_grad():
        same.weight.copy_(matrix(layer))
        same.bias.copy_(layer.bias)
    for name, parameter in same.binary.named_parameters():  # what starts at random, or from a weight
        parameter.data.copy_(dict(layer.binary.named_parameters())[name])
    return same


@by_kind
@by_method
@pytest.mark.parametrize("shape", [(5, IN), (2, 3, IN)], ids=str)
def test_it_computes_what_a_binary_linear_computes(kind: str, method: str, shape: tuple[int, ...]) -> None:
    model = binary(kind, method)
    spec = get_method(method).layers["linear"]
    same = oracle(model[0], spec)
    x = torch.randn(shape)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.manual_seed(1)
    found = model(ours)
    torch.manual_seed(1)
    expected = same(theirs)
    torch.testing.assert_close(found, expected)  # a sum over a transposed matrix may round otherwise
    torch.manual_seed(2)
    found.square().sum().backward()
    torch.manual_seed(2)
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    if same.weight.grad is not None:
        assert model[0].weight.grad.shape == model[0].weight.shape
        grad = model[0].weight.grad
        torch.testing.assert_close(grad.t() if kind == "hf.Conv1D" else grad, same.weight.grad)
    torch.testing.assert_close(model[0].bias.grad, same.bias.grad)


@by_kind
def test_with_codes_for_weights_and_inputs_it_is_the_float_layer(kind: str) -> None:
    layer = built(kind)
    with torch.no_grad():
        layer.weight.copy_(sign(layer.weight))
    x = sign(torch.randn(7, IN))
    expected = layer(x)
    use = {"method": "bnn", "activation.scale": "none", "weight.scale": "none"}
    model = bnnapps.binarize(nn.Sequential(layer), rules(kind, use))  # type: ignore[arg-type]
    torch.testing.assert_close(model(x), expected)


@by_kind
@by_method
def test_it_copies_pickles_loads_and_comes_back(kind: str, method: str) -> None:
    model = nn.Sequential(built(kind), nn.ReLU(inplace=True))
    state, kinds = copy.deepcopy(model.state_dict()), [type(m) for m in model.modules()]
    bnnapps.binarize(model, rules(kind, method))
    assert type(model[0]).__name__ == "Binary" + kinds[1].__name__
    x = torch.randn(3, IN)
    model.train()(x)
    model.eval()
    expected = model(x)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    other = binary(kind, method).append(nn.ReLU()).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), expected)
    other.load_state_dict(state)  # a float checkpoint
    bnnapps.restore(other)
    bnnapps.restore(model)
    assert [type(m) for m in model.modules()] == kinds
    for restored in (model, other):
        assert list(restored.state_dict()) == list(state)
        assert all(torch.equal(state[k], v) for k, v in restored.state_dict().items())


@by_kind
@by_method
def test_the_deployed_weight_has_the_shape_and_the_scales_of_the_filters(kind: str, method: str) -> None:
    model = binary(kind, method).eval()
    deployed = bnnapps.binary_state_dict(model)["0.weight"]
    assert deployed.shape == model[0].weight.shape
    expected = oracle(model[0], get_method(method).layers["linear"]).eval().binary_tensors()["weight"]
    torch.testing.assert_close(deployed.t() if kind == "hf.Conv1D" else deployed, expected)


def test_statistics_of_a_conv1d_are_those_of_its_columns() -> None:
    layer = Conv1D(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [3.0, -4.0, -0.5]]))
    model = bnnapps.binarize(nn.Sequential(layer), rules("hf.Conv1D", "xnor"))
    expected = torch.tensor([[2.0, -3.0, 0.5], [2.0, -3.0, -0.5]])
    assert torch.equal(bnnapps.binary_state_dict(model)["0.weight"], expected)
    summary = bnnapps.summarize(model, torch.randn(1, 2))
    assert (summary.params_1bit, summary.params_float) == (6, 3 + 3)  # three scales and three biases
    assert summary.bops == 6


def test_constraints_reach_the_stored_weight() -> None:
    model = binary("hf.Conv1D", "xnor")
    with torch.no_grad():
        model[0].weight.mul_(10)
    bnnapps.apply_constraints(model)
    assert float(model[0].weight.detach().abs().max()) == 1.0


def test_a_lazy_layer_is_refused_until_it_knows_its_size() -> None:
    model = nn.Sequential(PyGLinear(-1, OUT))
    with pytest.raises(BinarizeError, match="'0' is a lazy layer without sizes: run the model once first"):
        bnnapps.plan(model, rules("pyg.Linear", "bnn"))
    model(torch.randn(2, IN))
    plan = bnnapps.plan(model, rules("pyg.Linear", "bnn"))
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, torch.randn(2, IN))


def test_a_frozen_weight_stays_frozen() -> None:
    layer = Conv1D(OUT, IN)
    layer.weight.requires_grad_(False)
    with torch.no_grad():
        model = bnnapps.binarize(nn.Sequential(layer), rules("hf.Conv1D", "binarybert"))
    assert not any(p.requires_grad for n, p in model.named_parameters() if "weight" in n)


def test_classes_of_the_same_name_elsewhere_are_none_of_these() -> None:
    class Conv1D(nn.Module):
        pass

    class Linear(nn.Module):
        pass

    assert type_of(Conv1D()) is None
    assert type_of(Linear()) is None

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnnapps.errors import BinarizeError
from bnnapps.nn import (
    ActivationSpec,
    BinaryGRU,
    BinaryGRUCell,
    BinaryLSTM,
    BinaryLSTMCell,
    BinaryRNN,
    BinaryRNNCell,
    LinearSpec,
    WeightSpec,
)
from bnnapps.nn import functional as BF
from bnnapps.nn.spec import OutputSpec

REAL = LinearSpec(weight=None, activation=None)
KINDS: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "tanh": (nn.RNNCell, BinaryRNNCell, BinaryRNN, {}),
    "relu": (nn.RNNCell, BinaryRNNCell, BinaryRNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTMCell, BinaryLSTMCell, BinaryLSTM, {}),
    "gru": (nn.GRUCell, BinaryGRUCell, BinaryGRU, {}),
}
by_kind = pytest.mark.parametrize("kind", KINDS)
by_bias = pytest.mark.parametrize("bias", [False, True])


def pair(kind: str, spec: LinearSpec | None = None, **options: Any) -> tuple[Any, Any]:
    base, twin_class, _, own = KINDS[kind]
    options = {"dtype": torch.float64} | own | options
    cell, twin = base(4, 5, **options), twin_class(4, 5, **options, spec=spec)
    twin.load_state_dict(cell.state_dict())
    return cell, twin


def states(kind: str, *batch: int) -> Any:
    made = [torch.randn(*batch, 5, dtype=torch.float64) for _ in range(2)]
    return tuple(made) if kind == "lstm" else made[0]


def tensors(result: Any) -> list[Tensor]:
    return list(result) if isinstance(result, tuple) else [result]


@by_kind
@by_bias
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("given", [False, True])
def test_with_real_operands_it_is_the_float_cell(kind: str, bias: bool, batch: tuple[int, ...], given: bool) -> None:
    cell, twin = pair(kind, REAL, bias=bias)
    x = torch.randn(*batch, 4, dtype=torch.float64)
    hx = states(kind, *batch) if given else None
    found, expected = twin(x, hx), cell(x, hx)
    assert type(found) is type(expected)
    for ours, theirs in zip(tensors(found), tensors(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@by_kind
@by_bias
def test_binary_operands_make_the_float_cell_of_scaled_signs_on_signs(kind: str, bias: bool) -> None:
    """Where every |h| is 1, a cell with weights scale * sign on sign(x) computes the same."""
    cell, twin = pair(kind, bias=bias)
    for name, w in list(cell.named_parameters()):
        if name.startswith("weight"):
            w.data.copy_(BF.sign(w) * w.detach().abs().mean(1, keepdim=True))
    x, hx = torch.randn(3, 4, dtype=torch.float64), states(kind, 3)
    hx = (BF.sign(hx[0]), hx[1]) if kind == "lstm" else BF.sign(hx)
    for ours, theirs in zip(tensors(twin(x, hx)), tensors(cell(BF.sign(x), hx)), strict=True):
        torch.testing.assert_close(ours, theirs)


@by_kind
def test_a_loop_of_cells_is_the_layer(kind: str) -> None:
    _, twin = pair(kind)
    _, _, layer_class, own = KINDS[kind]
    layer = layer_class(4, 5, **own, dtype=torch.float64)
    layer.load_state_dict({f"{n}_l0": p for n, p in twin.named_parameters()}, strict=False)
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    state, outputs = None, []
    for step in x:
        state = twin(step, state)
        outputs.append(tensors(state)[0])
    assert torch.equal(layer(x)[0], torch.stack(outputs))


SPECS = {
    "default": LinearSpec(),
    "elastic": LinearSpec(activation=ActivationSpec(shift="channel", scale="elastic")),
    "affine": LinearSpec(weight=WeightSpec(scale="affine"), activation=ActivationSpec(scale="affine")),
    "split": LinearSpec(weight=WeightSpec.model_validate({"kind": "split", "estimator": "identity"})),
}


@by_kind
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_training_copies_and_saved_parts(kind: str, spec: LinearSpec) -> None:
    _, twin = pair(kind, spec)
    x = torch.randn(3, 4, dtype=torch.float64)
    output = tensors(twin.train()(x))[0]
    output.square().sum().backward()
    for name, parameter in twin.named_parameters():
        if spec is not SPECS["split"] or not name.startswith("weight"):
            assert parameter.grad is not None, name
            assert bool(parameter.grad.isfinite().all()), name
    twin.eval()
    expected = tensors(twin(x, states(kind, 3)))[0].shape, tensors(twin(x))[0]
    other = pair(kind, spec)[1].eval()
    other.load_state_dict(twin.state_dict())
    for made in (other, copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        assert torch.equal(tensors(made(x))[0], expected[1])


def test_the_scale_of_the_hidden_state_starts_from_the_state_that_follows() -> None:
    cell, twin = pair("gru", LinearSpec(weight=None, activation=ActivationSpec(scale="elastic")))
    x = torch.randn(3, 4, dtype=torch.float64)
    twin.train()(x)
    following = cell(BF.sign(x) * 2 * x.abs().mean())
    found = twin.binary.product("hh").activation.alpha
    torch.testing.assert_close(found.double(), 2 * following.abs().mean().view(1), rtol=1e-6, atol=0)


def test_latent_and_deployed_weights_have_the_float_names() -> None:
    _, twin = pair("lstm", LinearSpec(weight=WeightSpec(constraint="clip")))
    assert [n for n, _, _ in twin.latents()] == ["weight_ih", "weight_hh"]
    for name, w in twin.binary_tensors().items():
        latent = twin.get_parameter(name).detach()
        torch.testing.assert_close(w, BF.sign(latent) * latent.abs().mean(1, keepdim=True))
    with torch.no_grad():
        twin.weight_hh.mul_(100)
    twin.constrain()
    assert float(twin.weight_hh.detach().abs().max()) == 1.0


@by_kind
def test_wrong_inputs_are_refused_as_in_the_float_cell(kind: str) -> None:
    cell, twin = pair(kind)
    x = torch.randn(3, 4, dtype=torch.float64)
    for given in ((x[:, :2],), (x[None],), (x, states(kind, 2)), (x, states(kind, 1)), (x[0], states(kind, 3))):
        for net in (cell, twin):
            with pytest.raises((ValueError, RuntimeError)):
                net(*given)


def test_an_unknown_nonlinearity_is_refused() -> None:
    twin = BinaryRNNCell(4, 5, nonlinearity="sine")
    with pytest.raises(ValueError, match="'tanh' or 'relu', not 'sine'"):
        twin(torch.zeros(4))


@by_kind
def test_what_has_no_place_is_refused(kind: str) -> None:
    with pytest.raises(BinarizeError, match="a recurrent cell has no output scale"):
        pair(kind, LinearSpec(output=OutputSpec()))
    with pytest.raises(BinarizeError, match="a recurrent cell has no rounded gradient"):
        pair(kind, LinearSpec(gradient_bits=8))

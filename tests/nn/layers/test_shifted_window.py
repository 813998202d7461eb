from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.errors import BinarizeError
from bnnapps.methods import methods
from bnnapps.nn import functional as BF
from bnnapps.nn.layers import BinaryShiftedWindowAttention
from bnnapps.nn.layers.windows import windows_of

METHODS = [m.name for m in methods() if "attention" in m.layers]
REAL: dict[str, Any] = {
    "method": "bit",
    **dict.fromkeys(("query", "key", "value", "weights", "projection.weight", "projection.activation")),
}
KINDS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...]]] = {
    "V1": (ShiftedWindowAttention, (4, 2), (2, 1)),
    "V2": (ShiftedWindowAttentionV2, (4, 2), (2, 1)),
    "3d": (ShiftedWindowAttention3d, (2, 4, 2), (1, 2, 1)),
}
EXTENTS: dict[str, list[tuple[int, ...]]] = {
    "V1": [(8, 4), (7, 5), (4, 2), (3, 9)],
    "V2": [(8, 4), (7, 5), (4, 2), (3, 9)],
    "3d": [(4, 8, 4), (3, 7, 5), (1, 3, 2)],
}
CASES = [(kind, extent) for kind, extents in EXTENTS.items() for extent in extents]
by_kind = pytest.mark.parametrize("kind", KINDS)


def built(kind: str, shifted: bool = True) -> nn.Sequential:
    make, window, shift = KINDS[kind]
    layer = make(8, list(window), list(shift) if shifted else [0] * len(window), 2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.7)
    return nn.Sequential(layer)


def rules(use: Any) -> dict[str, Any]:
    kinds = ("torchvision.ShiftedWindowAttention",)
    return {"rules": [Rule(types=kinds, use=use)], "keep_first": 0, "keep_last": 0}


@pytest.mark.parametrize(("kind", "extent"), CASES, ids=str)
@pytest.mark.parametrize("shifted", [True, False])
def test_with_real_operands_it_is_the_float_attention(kind: str, extent: tuple[int, ...], shifted: bool) -> None:
    model = built(kind, shifted)
    x = torch.randn(2, *extent, 8, requires_grad=True)
    expected = model(x)
    expected.square().sum().backward()
    assert x.grad is not None
    before = {n: p.grad for n, p in model.named_parameters()}
    input_before, x.grad = x.grad, None
    model.zero_grad()
    bnnapps.binarize(model, rules(REAL))
    assert isinstance(model[0], BinaryShiftedWindowAttention)
    found = model(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    torch.testing.assert_close(x.grad, input_before, rtol=1e-3, atol=1e-4)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, before[name], rtol=1e-3, atol=1e-4)


@by_kind
@pytest.mark.parametrize("method", METHODS)
def test_plan_binarize_copy_train_restore(kind: str, method: str) -> None:
    model, x = built(kind), torch.randn(2, *EXTENTS[kind][1], 8)
    state, expected = copy.deepcopy(model.state_dict()), model(x)
    plan = bnnapps.plan(model, rules(method))
    assert [e.name for e in plan.binarized] == ["0"]
    reasons = {e.name: e.reason for e in plan.kept if e.name in ("0.qkv", "0.proj")}
    assert set(reasons.values()) == {"its parent '0' computes with it"}
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, x)
    model.train()(x).square().sum().backward()
    model.zero_grad()
    model.eval()
    binary = model(x)
    assert binary.shape == x.shape
    assert not torch.allclose(binary, expected)
    assert torch.equal(copy.deepcopy(model)(x), binary)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), binary)
    other = bnnapps.binarize(built(kind), rules(method)).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), binary)
    other.load_state_dict(state)  # a float checkpoint
    assert list(bnnapps.binary_state_dict(model)) == ["0.qkv.weight", "0.proj.weight"]
    bnnapps.apply_constraints(model)
    for back in (bnnapps.restore(model), bnnapps.restore(other)):
        assert list(back.state_dict()) == list(state)
    assert all(torch.equal(state[k], v) for k, v in other.state_dict().items())


def test_one_window_is_the_published_formula() -> None:
    model, x = built("V1", shifted=False), torch.randn(2, 4, 2, 8)
    bnnapps.binarize(model, rules("bibert"))
    layer: Any = model[0]
    weight = bnnapps.binary_state_dict(model)
    qkv = nn.functional.linear(BF.sign(x.flatten(1, 2)), weight["0.qkv.weight"], layer.qkv.bias)
    q, k, v = qkv.reshape(2, 8, 3, 2, 4).permute(2, 0, 3, 1, 4)
    scores = BF.sign(q) @ BF.sign(k).mT / 2 + layer.get_relative_position_bias()
    context = (BF.step(scores) @ BF.sign(v)).transpose(1, 2).flatten(2)
    expected = nn.functional.linear(BF.sign(context), weight["0.proj.weight"], layer.proj.bias)
    torch.testing.assert_close(model(x).flatten(1, 2), expected)


def test_cosine_scores_are_those_of_unit_vectors() -> None:
    model, x = built("V2", shifted=False), torch.randn(2, 4, 2, 8)
    bnnapps.binarize(model, rules("bibert"))
    layer: Any = model[0]
    seen: list[torch.Tensor] = []
    layer.binary.scores.register_forward_hook(lambda m, a, out: seen.append(out))
    model(x)
    cosines = seen[0] / layer.logit_scale.clamp(max=4.6052).exp()
    assert float(cosines.detach().abs().max()) <= 1 + 1e-5
    assert bool(((cosines * 4).detach() - (cosines * 4).detach().round()).abs().max() < 1e-4)


@pytest.mark.parametrize("method", ["bibert", "bit"])
def test_positions_that_a_shift_brought_together_do_not_see_each_other(method: str) -> None:
    model = nn.Sequential(ShiftedWindowAttention(8, [4, 4], [2, 2], 2))
    bnnapps.binarize(model, rules(method))
    x = torch.randn(1, 8, 8, 8)
    model.train()(x)
    model.eval()
    changed = x.clone()
    changed[:, :2, :2] = torch.randn(1, 2, 2, 8)  # rolled into one window with the last two rows and columns
    moved = (model(x) != model(changed)).any(dim=-1)[0]
    assert bool(moved[:2, :2].any())
    assert not bool(moved[2:].any() | moved[:, 2:].any())


def test_dropout_is_active_in_training_only() -> None:
    model = nn.Sequential(ShiftedWindowAttention(8, [4, 4], [0, 0], 2, attention_dropout=0.5))
    bnnapps.binarize(model, rules("bibert"))
    x = torch.randn(1, 4, 4, 8)
    assert torch.equal(model.eval()(x), model(x))
    assert not torch.equal(model.train()(x), model(x))


def test_a_rule_on_its_projections_alone_says_what_to_name() -> None:
    with pytest.raises(BinarizeError, match=r"'0.qkv' is never called.*name '0' instead"):
        bnnapps.plan(built("V1"), [Rule(match="0.qkv", use="bnn")])


def test_sizes_count_both_projections_as_bits() -> None:
    model = bnnapps.binarize(built("V1"), rules("bibert"))
    summary = bnnapps.summarize(model, torch.randn(1, 4, 2, 8))
    assert summary.params_1bit == 8 * 24 + 8 * 8
    table, biases, scales = 7 * 3 * 2, 24 + 8, 24 + 8
    assert summary.params_float == table + biases + scales
    (row,) = [r for r in summary.layers if r.type == "torchvision.ShiftedWindowAttention"]
    assert (row.bops, row.flops, row.weight_bits) == (8 * (8 * 24 + 8 * 8) + 2 * 8 * 8 * 8, 0, 1)


@given(
    extent=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    window=st.integers(1, 4),
    shift=st.integers(0, 3),
    shrink=st.booleans(),
)
def test_join_undoes_split(extent: list[int], window: int, shift: int, shrink: bool) -> None:
    shift = min(shift, window - 1)
    windows = windows_of(extent, [window] * len(extent), [shift] * len(extent), shrink)
    x = torch.randn(2, *extent, 3)
    split = windows.split(x)
    positions = 1
    for size in windows.size:
        positions *= size
    assert split.shape[2:] == (positions, 3)
    assert torch.equal(windows.join(split), x)
    hidden = windows.hidden(x.device)
    if hidden is not None:
        assert torch.equal(hidden, hidden.mT)
        assert not hidden.diagonal(dim1=1, dim2=2).any()

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.methods import get_method, methods
from bnnapps.nn import ActivationSpec, BinaryMatmul, Matmul, MatmulSpec
from bnnapps.nn.functional import sign, step

METHODS = [m.name for m in methods() if "matmul" in m.layers]
FLAGS = MatmulSpec(left=ActivationSpec(unsigned=True))


class Attention(nn.Module):
    """A model's own products of activations, the second with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.scores, self.context = Matmul(), Matmul()

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        scores = self.scores(self.query(x), self.key(x).transpose(-1, -2))
        mask = None if seen is None else seen[:, None, :]
        result: Tensor = self.context(scores, self.value(x), mask)
        return result


def test_float_product_is_that_of_torch() -> None:
    left, right = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    assert torch.equal(Matmul()(left, right), torch.matmul(left, right))
    mask = torch.rand(2, 1, 4) > 0.5
    assert torch.equal(Matmul()(left, right, mask), torch.matmul(left * mask, right))
    assert not list(Matmul().state_dict())


@given(
    batch=st.lists(st.integers(1, 3), max_size=2),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 70), st.integers(1, 5)),
    unsigned=st.booleans(),
    masked=st.booleans(),
)
def test_product_of_codes_is_exact(batch: list[int], sizes: tuple[int, int, int], unsigned: bool, masked: bool) -> None:
    rows, inner, columns = sizes
    left, right = torch.randn(*batch, rows, inner), torch.randn(*batch, inner, columns)
    mask = torch.rand(*batch, 1, inner) > 0.4 if masked else None
    layer = BinaryMatmul(spec=MatmulSpec(left=ActivationSpec(unsigned=unsigned)))
    codes = step(left) if unsigned else sign(left)
    codes = codes.long() if mask is None else codes.long() * mask
    assert torch.equal(layer(left, right, mask).long(), codes @ sign(right).long())


@pytest.mark.parametrize("spec", [MatmulSpec(), FLAGS], ids=["signs", "flags"])
def test_what_is_masked_leaves_no_trace(spec: MatmulSpec) -> None:
    layer = BinaryMatmul(spec=spec)
    left, right = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    mask = torch.tensor([[True, False, True, False], [True] * 4])[:, None]
    found = layer(left.requires_grad_(), right.requires_grad_(), mask)
    kept = [0, 2]
    assert torch.equal(found[0], layer(left[0][:, kept], right[0][kept]))
    assert torch.equal(found[1], layer(left[1], right[1]))
    found.sum().backward()
    assert left.grad is not None
    assert right.grad is not None
    assert not left.grad[0][:, [1, 3]].any()
    assert not right.grad[0][[1, 3]].any()


def test_gradients_are_those_of_the_clipped_estimator() -> None:
    left, right = (3 * torch.randn(3, 4)).requires_grad_(), (3 * torch.randn(4, 2)).requires_grad_()
    up = torch.randn(3, 2)
    BinaryMatmul()(left, right).backward(up)
    a, b = left.detach(), right.detach()
    assert left.grad is not None
    assert right.grad is not None
    torch.testing.assert_close(left.grad, (up @ sign(b).t()) * (a.abs() <= 1))
    torch.testing.assert_close(right.grad, (sign(a).t() @ up) * (b.abs() <= 1))


def test_with_real_operands_it_is_the_float_product() -> None:
    layer = BinaryMatmul(spec=MatmulSpec(left=None, right=None))
    left, right = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    assert torch.equal(layer(left, right), torch.matmul(left, right))
    half = BinaryMatmul(spec=MatmulSpec(left=None))
    torch.testing.assert_close(half(left, right), left @ sign(right))


def test_constructor_and_forward_are_those_of_the_float_class_plus_spec() -> None:
    ours, theirs = (inspect.signature(c).parameters for c in (BinaryMatmul, Matmul))
    assert list(ours) == [*theirs, "spec"]
    assert ours["spec"].kind is inspect.Parameter.KEYWORD_ONLY
    assert inspect.signature(BinaryMatmul.forward) == inspect.signature(Matmul.forward)
    learned = MatmulSpec(left=ActivationSpec(scale="elastic"))
    assert {p.dtype for p in BinaryMatmul(dtype=torch.float64, spec=learned).to(torch.float64).parameters()} == {
        torch.float64
    }


@pytest.mark.parametrize("method", METHODS)
def test_rules_reach_it_and_restore_undoes_it(method: str) -> None:
    model, x = Attention(), torch.randn(2, 5, 6)
    seen = torch.tensor([[True, True, True, False, False], [True] * 5])
    expected, keys = model(x, seen), list(model.state_dict())
    rules = [Rule(types=["matmul"], use=method)]
    plan = bnnapps.plan(model, rules, keep_first=0, keep_last=0)
    assert [e.name for e in plan.binarized] == ["scores", "context"]
    assert "left" in str(plan)
    assert bnnapps.Plan.from_dict(plan.to_dict()) == plan
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, (x, seen))
    model.train()(x, seen).square().sum().backward()
    model.eval()
    binary = model(x, seen)
    assert not torch.equal(binary, expected)
    other = x.clone()
    other[0, 3:] = 7.0
    left = plan.binarized[0].spec.left  # type: ignore[union-attr]
    if left is None or left.scale != "uniform":  # whose levels follow the largest value of a batch, hidden ones too
        assert torch.equal(model(other, seen)[0, :3], binary[0, :3])
    assert torch.equal(copy.deepcopy(model)(x, seen), binary)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x, seen), binary)
    bnnapps.restore(model)
    assert list(model.state_dict()) == keys
    assert torch.equal(model(x, seen), expected)


def test_summary_counts_its_products_as_binary() -> None:
    model = bnnapps.binarize(Attention(), [Rule(types=["matmul"], use="bnn")], keep_first=0, keep_last=0)
    rows = {row.name: row for row in bnnapps.summarize(model, torch.randn(1, 5, 6)).layers}
    for name in ("scores", "context"):
        row = rows[name]
        assert (row.type, row.weight_bits, row.activation_bits, row.bops, row.flops) == ("matmul", None, 1, 150, 0)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "input map": ({"left": {"scale": "input_map"}}, "left.scale is 'input_map'"),
    "affine": ({"right": {"scale": "affine"}}, "right.scale is 'affine'"),
    "shift": (
        {"right": {"shift": "channel"}},
        "right.shift is 'channel', but a product of activations has no channels",
    ),
    "noise": ({"left": {"noise": True}}, "left.noise is true, but a product of activations has no channels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parts_that_need_channels_are_refused(case: str) -> None:
    fields, message = REFUSED[case]
    with pytest.raises(ValidationError, match=message):
        MatmulSpec(**fields)


def test_methods_with_products_of_their_own_cover_it() -> None:
    assert {"bnn", "xnor", "bireal"} <= set(METHODS)
    assert isinstance(get_method("bnn").layers["matmul"], MatmulSpec)

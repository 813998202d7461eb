from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from memory import kept_bytes
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

import bnnapps
from bnnapps.nn import codes as codes_module
from bnnapps.nn import functional as BF
from bnnapps.nn.codes import Codes, linear, multiply, rescale

sizes = st.integers(1, 40)
scalings = st.sampled_from([None, "filter", "layer"])


def code_tensor(kind: str, *shape: int) -> Tensor:
    signs = BF.sign(torch.randn(shape))
    return signs.clamp(min=0) if kind == "flag" else signs


@given(sizes, st.integers(2, 40), sizes, st.sampled_from(["sign", "flag"]), scalings, st.booleans())
def test_products_of_bytes_equal_those_of_floats(
    rows: int, columns: int, out: int, kind: str, over: str | None, biased: bool
) -> None:
    x = code_tensor(kind, 2, rows, columns).requires_grad_()
    w = code_tensor("sign", out, columns).requires_grad_()
    scale = {None: None, "filter": torch.rand(out), "layer": torch.rand(1)}[over]
    bias = torch.randn(out, requires_grad=True) if biased else None
    found = BF.scaled_linear(x, w, scale, bias, (kind == "flag", False))
    expected = F.linear(x, w) if scale is None else F.linear(x, w) * scale
    expected = expected if bias is None else expected + bias
    assert torch.equal(found, expected)
    upstream = torch.randn_like(found)
    inputs = (x, w) if bias is None else (x, w, bias)
    for ours, theirs in zip(*(torch.autograd.grad(y, inputs, upstream) for y in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", ["x", "w"])
def test_a_frozen_operand_gets_no_gradient_and_its_partner_is_not_kept(frozen: str) -> None:
    x, w = code_tensor("sign", 8, 64), code_tensor("sign", 16, 64)
    trained = w if frozen == "x" else x
    trained.requires_grad_()
    held = kept_bytes(lambda: BF.scaled_linear(x, w, None, None, (False, False)))
    assert held == (x if frozen == "x" else w).numel() // 8
    BF.scaled_linear(x, w, None, None, (False, False)).sum().backward()
    assert trained.grad is not None
    assert (x if frozen == "x" else w).grad is None


def test_operands_and_gradients_of_any_layout() -> None:
    x = code_tensor("sign", 3, 16, 5).transpose(1, 2).requires_grad_()
    w = code_tensor("sign", 16, 7).t().requires_grad_()
    found, expected = BF.scaled_linear(x, w, None, None, (False, False)), F.linear(x, w)
    upstream = torch.randn(7, 5, 3).transpose(0, 2)
    for ours, theirs in zip(*(torch.autograd.grad(y, (x, w), upstream) for y in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("bytes_too", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale_x", [None, "number", "rows"])
def test_linear_of_codes_is_the_rescaled_product(
    bytes_too: bool, dtype: torch.dtype, scale_x: str | None, monkeypatch: Any
) -> None:
    if not bytes_too:
        monkeypatch.setattr(codes_module, "multiplies_bytes", lambda x, w: False)
    scales = {None: None, "number": torch.tensor([0.5], dtype=dtype), "rows": torch.rand(4, 1).to(dtype)}
    x = Codes(code_tensor("sign", 4, 32).to(dtype).requires_grad_(), scales[scale_x], "sign")
    w = Codes(code_tensor("sign", 6, 32).to(dtype).requires_grad_(), torch.rand(6, 1).to(dtype), "sign")
    bias = torch.randn(6).to(dtype)
    found, expected = linear(x, w, bias), rescale(multiply(F.linear, x, w), x, w, bias, channel_dim=-1)
    assert found.dtype == dtype
    assert torch.equal(found, expected)
    for ours, theirs in zip(
        *(torch.autograd.grad(y.sum(), (x.codes, w.codes)) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_which_operands_are_multiplied_as_bytes() -> None:
    x, w = torch.ones(2, 8), torch.ones(3, 8)
    assert not BF.multiplies_bytes(x.double(), w.double())
    assert not BF.multiplies_bytes(x[:0], w)
    assert not BF.multiplies_bytes(x[:, :1], w[:, :1])
    assert not BF.multiplies_bytes(x.to("meta"), w.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not BF.multiplies_bytes(x, w)


def test_a_processor_whose_byte_products_are_wrong_gets_floats(monkeypatch: Any) -> None:
    module = sys.modules["bnnapps.nn.functional.linear"]
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    check = module._has_byte_products.__wrapped__
    assert check()
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.float() @ b.float()).int().clamp(max=127))
    assert not check()
    monkeypatch.delattr(torch, "_int_mm")
    assert not check()


@pytest.mark.parametrize("method", ["bibert", "bit", "naive"])
def test_a_training_step_is_the_same_with_bytes_and_with_floats(method: str, monkeypatch: Any) -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model = bnnapps.binarize(BertForSequenceClassification(config), method).train()
    batch = {"input_ids": torch.randint(50, (3, 8)), "labels": torch.tensor([0, 1, 1])}
    model(**batch)  # learned scales take their start from the first batch
    steps, asked = [], []
    for allowed in (True, False):

        def choose(x: Tensor, w: Tensor, allowed: bool = allowed) -> bool:
            asked.append(allowed)
            return allowed

        monkeypatch.setattr(codes_module, "multiplies_bytes", choose)
        torch.manual_seed(1)
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        steps.append((loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (loss, gradients), (float_loss, float_gradients) = steps
    assert asked.count(True) == asked.count(False) == 13  # six linear layers in each layer, and the pooler
    assert torch.equal(loss, float_loss)
    assert gradients.keys() == float_gradients.keys()
    for name, gradient in float_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-9, msg=name)


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6)], ids=str)
def test_the_result_may_be_changed_in_place(shape: tuple[int, ...]) -> None:
    x, w = BF.sign(torch.randn(shape)), BF.sign(torch.randn(4, 6))
    gradients = []
    for inplace in (False, True):
        leaf, weight = x.clone().requires_grad_(), w.clone().requires_grad_()
        result = BF.scaled_linear(leaf, weight, torch.rand(4, generator=torch.Generator()), None, (False, False))
        torch.relu_(result).sum().backward() if inplace else torch.relu(result).sum().backward()
        gradients.append((leaf.grad, weight.grad))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))  # type: ignore[arg-type]

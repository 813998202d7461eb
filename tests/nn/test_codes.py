from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from memory import kept_bytes
from torch import Tensor

from bnnapps.nn import functional as BF
from bnnapps.nn.codes import Codes, as_operand, multiply, rescale


def signs(*shape: int) -> Tensor:
    return BF.sign(torch.randn(shape))


@pytest.mark.parametrize("left", ["sign", "flag", "integer", "real"])
@pytest.mark.parametrize("right", ["sign", "flag", "integer", "real"])
def test_product_and_gradients_for_every_kind_of_operand(left: Any, right: Any) -> None:
    made = {
        "sign": lambda *s: signs(*s),
        "flag": lambda *s: BF.step(torch.randn(s)),
        "integer": lambda *s: torch.randint(-8, 8, s).float(),
        "real": lambda *s: torch.randn(s),
    }
    a, b = made[left](5, 9).requires_grad_(), made[right](4, 9).requires_grad_()
    found = multiply(F.linear, Codes(a, None, left), Codes(b, None, right))
    expected = F.linear(a, b)
    assert torch.equal(found, expected)
    upstream = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad(found, (a, b), upstream), torch.autograd.grad(expected, (a, b), upstream), strict=True
    ):
        assert torch.equal(ours, theirs)
    with torch.no_grad():
        assert torch.equal(multiply(F.linear, Codes(a, None, left), Codes(b, None, right)), expected)


def test_under_autocast_the_codes_are_kept_as_bits_too() -> None:
    a, b = signs(16, 64).requires_grad_(), signs(8, 64).requires_grad_()

    def forward() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return multiply(F.linear, Codes(a * 1, None, "sign"), Codes(b * 1, None, "sign"))

    assert forward().dtype == torch.bfloat16
    assert kept_bytes(forward) == (16 + 8) * 64 // 8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_without_gradients_short_types_are_multiplied_in_float32(dtype: torch.dtype) -> None:
    a, b = torch.ones(1, 1001, dtype=dtype), torch.ones(1, 1001, dtype=dtype)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        product = multiply(F.linear, Codes(a, None, "sign"), Codes(b, None, "sign"))
    assert product.dtype == torch.float32
    assert product.item() == 1001


@pytest.mark.parametrize("channel_dim", [-1, -2, -3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale_x", [None, "number", "map"])
@pytest.mark.parametrize("scale_w", [None, "filter", "layer"])
def test_rescale(channel_dim: int, bias: bool, scale_x: str | None, scale_w: str | None) -> None:
    shape = [2, 3, 4, 5]
    size = shape[channel_dim]
    product = torch.randn(shape)
    copy = product.clone()
    map_shape = list(shape)
    map_shape[channel_dim] = 1
    x = Codes(signs(1), {None: None, "number": torch.tensor([0.5]), "map": torch.rand(map_shape)}[scale_x])
    w = Codes(signs(1), {None: None, "filter": torch.rand(size, 1, 1), "layer": torch.rand(1, 1, 1)}[scale_w])
    offset = torch.randn(size) if bias else None
    expected = product.movedim(channel_dim, -1)
    if x.scale is not None:
        expected = expected * (x.scale if scale_x == "number" else x.scale.movedim(channel_dim, -1))
    if w.scale is not None:
        expected = expected * w.scale.flatten()
    if offset is not None:
        expected = expected + offset
    found = rescale(product, x, w, offset, channel_dim)
    torch.testing.assert_close(found, expected.movedim(-1, channel_dim))
    assert torch.equal(product, copy)


def test_results_come_in_the_dtype_of_the_operand_unless_autocast_decides() -> None:
    x = Codes(torch.ones(2, dtype=torch.bfloat16))
    result = torch.ones(2)
    assert as_operand(result, x).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert as_operand(result, x).dtype == torch.float32

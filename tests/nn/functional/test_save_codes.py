from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from memory import kept_bytes
from torch import Tensor

from bnnapps.nn import functional as BF

Product = Callable[[Tensor, Tensor], Tensor]
PRODUCTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Product]] = {
    "linear": ((5, 16), (7, 16), F.linear),
    "linear of tokens": ((2, 5, 16), (7, 16), F.linear),
    "linear of many dimensions": ((2, 3, 5, 9), (7, 9), F.linear),
    "conv1d": ((2, 4, 11), (6, 2, 3), lambda x, w: F.conv1d(x, w, None, 2, 1, 2, 2)),
    "conv2d": ((2, 3, 8, 9), (4, 3, 3, 2), F.conv2d),
    "conv2d strided": ((2, 3, 8, 9), (4, 3, 3, 3), lambda x, w: F.conv2d(x, w, None, 2, 1)),
    "conv2d dilated": ((2, 3, 9, 9), (4, 3, 3, 3), lambda x, w: F.conv2d(x, w, None, 1, 2, 2)),
    "conv2d grouped": ((2, 6, 8, 8), (4, 3, 3, 3), lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 2)),
    "conv2d depthwise": ((2, 6, 8, 8), (6, 1, 3, 3), lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 6)),
    "conv2d same": ((2, 3, 8, 8), (4, 3, 2, 2), lambda x, w: F.conv2d(x, w, None, 1, "same")),
    "conv2d of one map": ((3, 8, 8), (4, 3, 3, 3), F.conv2d),
    "conv3d": ((2, 4, 5, 6, 5), (4, 2, 2, 3, 2), lambda x, w: F.conv3d(x, w, None, (1, 2, 1), 1, 1, 2)),
    "matmul": ((5, 16), (16, 7), torch.matmul),
    "matmul with the right transposed": ((5, 16), (7, 16), lambda a, b: a @ b.t()),
    "matmul with the left transposed": ((16, 5), (16, 7), lambda a, b: a.t() @ b),
    "matmul of heads": ((2, 3, 5, 8), (2, 3, 7, 8), lambda a, b: a @ b.transpose(-1, -2)),
    "matmul with broadcasting": ((2, 3, 5, 8), (8, 7), torch.matmul),
    "bmm": ((3, 5, 8), (3, 8, 4), torch.bmm),
    "bmm with both transposed": ((3, 8, 5), (3, 4, 8), lambda a, b: torch.bmm(a.mT, b.mT)),
    "elementwise product": ((4, 9), (4, 9), torch.mul),
    "product with itself": ((4, 9), (9, 4), lambda a, b: a @ a.t() + (a @ b).sum()),
}
by_product = pytest.mark.parametrize("name", PRODUCTS)


def codes(shape: tuple[int, ...], kind: str) -> Tensor:
    signs = torch.randint(0, 2, shape).float() * 2 - 1
    return signs.clamp(min=0) if kind == "flags" else signs


def gradients(product: Product, left: Tensor, right: Tensor, **known: Any) -> tuple[Tensor, ...]:
    a, b = (t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in (left, right))
    x, w = a * 1, b * 1
    names = {"left": x, "right": w}
    with BF.save_codes(**{kind: tuple(names[n] for n in which) for kind, which in known.items()}):
        y = product(x, w)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=y.dtype)
    return y, *torch.autograd.grad(y, (a, b), upstream)


@by_product
@pytest.mark.parametrize(
    "known",
    [{"signs": ("left", "right")}, {"flags": ("left",), "signs": ("right",)}, {"signs": ("right",)}, {}],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_gradients_are_those_of_pytorch_bit_for_bit(
    name: str, known: dict[str, tuple[str, ...]], dtype: torch.dtype
) -> None:
    left_shape, right_shape, product = PRODUCTS[name]
    left = codes(left_shape, "flags" if "flags" in known else "signs").to(dtype)
    right = codes(right_shape, "signs").to(dtype)
    plain, packed = gradients(product, left, right), gradients(product, left, right, **known)
    for expected, found in zip(plain, packed, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("layout", ["channels_last", "permuted", "gaps", "expanded", "offset"])
def test_memory_layouts(layout: str) -> None:
    x, w = codes((2, 4, 6, 6), "signs"), codes((5, 4, 3, 3), "signs")
    views = {
        "channels_last": lambda: x.to(memory_format=torch.channels_last),
        "permuted": lambda: x.transpose(0, 1).contiguous().transpose(0, 1),
        "gaps": lambda: codes((2, 4, 6, 12), "signs")[..., ::2],
        "expanded": lambda: codes((1, 4, 6, 6), "signs").expand(2, 4, 6, 6),
        "offset": lambda: codes((3, 4, 6, 6), "signs")[1:],
    }
    view = views[layout]()
    found, expected = [], []
    for results, context in ((found, BF.save_codes((view, w))), (expected, BF.save_codes())):
        x_leaf, w_leaf = view.detach().requires_grad_(), w.clone().requires_grad_()
        with context:
            y = F.conv2d(x_leaf, w_leaf)
        results += torch.autograd.grad(y.square().sum(), (x_leaf, w_leaf))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_another_view_of_the_same_memory_is_not_mistaken_for_the_codes() -> None:
    base = codes((32,), "signs")
    known, other = base[:8], base[::2][:8]
    weight = torch.randn(8, requires_grad=True)
    with BF.save_codes(signs=(known,)):
        (known * weight).sum().backward()
        first = weight.grad
        weight.grad = None
        y = (other * weight).sum()
    y.backward()
    assert first is not None
    assert torch.equal(first, known)
    assert weight.grad is not None
    assert torch.equal(weight.grad, other)


def test_real_operands_are_kept_as_they_are() -> None:
    x, w = torch.randn(4, 9, requires_grad=True), codes((3, 9), "signs").requires_grad_()
    with BF.save_codes(signs=(w,)):
        y = F.linear(x, w)
    dx, dw = torch.autograd.grad(y.sum(), (x, w))
    assert torch.equal(dx, w.detach().sum(0).expand(4, 9))
    torch.testing.assert_close(dw, x.detach().sum(0).expand(3, 9))


def test_backward_can_run_twice_and_inside_checkpointing() -> None:
    x, w = codes((4, 9), "signs").requires_grad_(), codes((3, 9), "signs").requires_grad_()

    def product(a: Tensor, b: Tensor) -> Tensor:
        with BF.save_codes((a, b)):
            return F.linear(a, b).square()

    plain = torch.autograd.grad(F.linear(x, w).square().sum(), (x, w))
    y = product(x, w).sum()
    for _ in range(2):
        again = torch.autograd.grad(y, (x, w), retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))
    for reentrant in (True, False):
        out = torch.utils.checkpoint.checkpoint(product, x, w, use_reentrant=reentrant).sum()
        x.grad = w.grad = None
        out.backward()
        assert x.grad is not None
        assert torch.equal(x.grad, plain[0])


@pytest.mark.parametrize("kind", ["signs", "flags"])
@pytest.mark.parametrize("name", [n for n in PRODUCTS if n not in ("product with itself", "conv2d same")])
def test_floats_are_gone_and_bits_stay(name: str, kind: str) -> None:
    left_shape, right_shape, product = PRODUCTS[name]
    left, right = codes(left_shape, kind).requires_grad_(), codes(right_shape, kind).requires_grad_()
    floats = 4 * (left.numel() + right.numel())

    def forward(packed: bool) -> Tensor:
        a, b = left * 1, right * 1
        known = {kind: (a, b)} if packed else {}
        with BF.save_codes(**known):
            return product(a, b)

    bits = -(-left.numel() // 8) + -(-right.numel() // 8)
    assert kept_bytes(lambda: forward(packed=False)) >= floats
    assert kept_bytes(lambda: forward(packed=True)) == bits


def test_codes_saved_by_two_operators_are_packed_once() -> None:
    x = codes((16, 64), "signs").requires_grad_()
    weights = [torch.randn(8, 64, requires_grad=True) for _ in range(2)]
    start = torch.zeros(())

    def forward() -> Tensor:
        a = x * 1
        with BF.save_codes(signs=(a,)):
            return sum((F.linear(a, w) for w in weights), start)

    assert kept_bytes(forward) == 16 * 64 // 8


def test_the_context_forgets_the_floats_when_it_ends() -> None:
    x = codes((64, 64), "signs").requires_grad_()
    contexts = []

    def forward() -> Tensor:
        a = x * 1
        contexts.append(BF.save_codes(signs=(a,)))
        with contexts[-1]:
            return F.linear(a, a.detach())

    assert kept_bytes(forward) == 64 * 64 // 8


def test_the_context_ends_also_after_an_error() -> None:
    x = codes((2, 3), "signs").requires_grad_()
    with pytest.raises(RuntimeError, match="shape"), BF.save_codes((x,)):
        F.linear(x, torch.ones(4, 5))
    y = copy.deepcopy(x.detach()).requires_grad_()
    (y * x).sum().backward()
    assert y.grad is not None
    assert torch.equal(y.grad, x.detach())

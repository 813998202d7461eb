from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from memory import kept_bytes
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bnnapps.nn import functional as BF

TYPES = [torch.float32, torch.float64, torch.bfloat16]
ALPHA = 0.08


def layouts(dtype: torch.dtype) -> list[Tensor]:
    x = torch.randn(4, 6, 10, dtype=dtype)
    x[0, 0, :3] = torch.tensor([0.0, -0.0, 1e-30])
    return [x, x.transpose(0, 2), x[:, ::2], x.flatten()[1:]]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_relu_is_that_of_torch_in_every_layout(dtype: torch.dtype) -> None:
    for x in layouts(dtype):
        x = x.detach().requires_grad_()
        upstream = torch.randn_like(x)
        found, expected = BF.relu(x), F.relu(x)
        assert torch.equal(found, expected)
        assert torch.equal(*(torch.autograd.grad(y, x, upstream)[0] for y in (found, expected)))


def test_relu_keeps_a_bit_an_element() -> None:
    x = torch.randn(32, 64, requires_grad=True)
    held = kept_bytes(lambda: BF.relu(x * 1))
    assert held == 32 * 64 // 8


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_dropped_scores_are_the_lowest_number_and_get_no_gradient(dtype: torch.dtype) -> None:
    lowest = torch.finfo(dtype).min
    for x in layouts(dtype):
        x = x.detach().clone(memory_format=torch.preserve_format)
        x[0] = lowest
        x.requires_grad_()
        torch.manual_seed(1)
        found = BF.drop_scores(x, 0.3)
        torch.manual_seed(1)
        dropped = torch.empty_like(x).bernoulli_(0.3).bool()
        assert dropped.any()
        assert torch.equal(found, x.masked_fill(dropped, lowest))
        upstream = torch.randn_like(found)
        assert torch.equal(torch.autograd.grad(found, x, upstream)[0], upstream.masked_fill(dropped, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("probability", [0.1, 0.5, 1.0])
def test_dropout_is_that_of_torch(dtype: torch.dtype, probability: float) -> None:
    for x in layouts(dtype):
        x = x.detach().requires_grad_()
        upstream = torch.randn_like(x)
        torch.manual_seed(2)
        found = BF.dropout(x, probability)
        torch.manual_seed(2)
        expected = F.dropout(x, probability)
        assert torch.equal(found, expected)
        assert torch.equal(*(torch.autograd.grad(y, x, upstream)[0] for y in (found, expected)))


def quantized(scores: Tensor, alpha: Tensor, remade: bool) -> Tensor:
    dropped = BF.dropout(torch.softmax(scores, dim=-1), 0.2)
    if not remade:
        return BF.learned_step(dropped, alpha, 0, 1)
    with BF.saved_as_made(dropped):
        return BF.learned_step(dropped, alpha, 0, 1)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_result_made_again_gives_the_same_gradients(checkpointed: bool) -> None:
    scores, upstream = torch.randn(5, 12, requires_grad=True), torch.randn(5, 12)
    alpha = torch.tensor([ALPHA], requires_grad=True)
    found = []
    for remade in (False, True):
        torch.manual_seed(4)
        if checkpointed and remade:
            codes = checkpoint(quantized, scores, alpha, remade, use_reentrant=False)
        else:
            codes = quantized(scores, alpha, remade)
        found.append((codes, *torch.autograd.grad(codes, (scores, alpha), upstream)))
    assert found[0][2].abs() > 0
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_a_result_that_is_made_again_is_not_kept() -> None:
    scores, alpha = torch.randn(32, 64, requires_grad=True), torch.tensor([ALPHA], requires_grad=True)
    plain, remade = (kept_bytes(lambda r=r: quantized(scores * 1, alpha, r)) for r in (False, True))
    assert plain - remade == 32 * 64 * 4
    assert remade <= 32 * 64 * 4 + 32 * 64 // 8 + 16  # the probabilities, and the bits of what was dropped


def test_other_tensors_are_kept_as_they_are() -> None:
    x = torch.randn(6, requires_grad=True)
    y = BF.dropout(x, 0.5)
    with BF.saved_as_made(y):
        z = x.exp().sum() + (y * 3).square().sum()
    (gradient,) = torch.autograd.grad(z, x)
    factor = y.detach() / x.detach()
    torch.testing.assert_close(gradient, x.detach().exp() + 18 * factor.square() * x.detach())

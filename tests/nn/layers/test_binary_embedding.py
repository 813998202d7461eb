from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnnapps.errors import BinarizeError
from bnnapps.nn import BinaryEmbedding, EmbeddingSpec, WeightSpec
from bnnapps.nn import functional as BF

INDICES = torch.tensor([[1, 1, 2], [0, 4, 1]])
SPLIT = EmbeddingSpec(weight=WeightSpec.model_validate({"kind": "split", "estimator": "identity"}))


def test_a_row_is_its_sign_times_its_mean_magnitude() -> None:
    table = BinaryEmbedding(5, 4)
    w = table.weight.detach()
    rows = BF.sign(w) * w.abs().mean(1, keepdim=True)
    torch.testing.assert_close(table(INDICES), rows[INDICES])
    assert torch.equal(table.binary_tensors()["weight"][INDICES], table(INDICES))


@pytest.mark.parametrize(
    "spec",
    [
        WeightSpec(),
        WeightSpec(transform="centre", scale_of="latent"),
        WeightSpec(transform="centre", over="layer", detach_mean=True, scale_of="latent"),
        WeightSpec(scale_over="layer"),
        WeightSpec(kind="ternary"),
        WeightSpec(kind="ternary", scale_over="layer"),
        WeightSpec(scale="power_of_two", scale_over="layer"),
        WeightSpec(scale="none"),
    ],
    ids=str,
)
def test_looking_up_is_binarizing_the_table_and_taking_rows(spec: WeightSpec) -> None:
    table = BinaryEmbedding(5, 4, dtype=torch.float64, spec=EmbeddingSpec(weight=spec))
    codes, scale, *_ = table.binary.weight(table.weight)
    whole = codes if scale is None else codes * scale
    found = table(INDICES)
    torch.testing.assert_close(found, whole[INDICES], rtol=1e-12, atol=0)
    upstream = torch.randn_like(found)
    (by_rows,) = torch.autograd.grad(found, table.weight, upstream)
    (by_table,) = torch.autograd.grad(whole[INDICES], table.weight, upstream)
    torch.testing.assert_close(by_rows, by_table)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("spec", [None, SPLIT], ids=["binary", "split"])
def test_indices_of_any_shape(shape: tuple[int, ...], spec: EmbeddingSpec | None) -> None:
    table = BinaryEmbedding(5, 4, spec=spec)
    found = table(torch.zeros(shape, dtype=torch.long))
    assert found.shape == (*shape, 4)
    found.sum().backward()


def plain_gradient(indices: Tensor, upstream: Tensor, **options: Any) -> Tensor:
    layer = nn.Embedding(5, 4, **options)
    layer(indices).backward(upstream)
    assert layer.weight.grad is not None
    return layer.weight.grad


@pytest.mark.parametrize(
    "options",
    [{}, {"padding_idx": 1}, {"scale_grad_by_freq": True}, {"padding_idx": 1, "scale_grad_by_freq": True}],
    ids=str,
)
def test_options_shape_the_gradient_as_in_the_float_layer(options: dict[str, Any]) -> None:
    spec = EmbeddingSpec(weight=WeightSpec.model_validate({"estimator": "identity"}))
    table = BinaryEmbedding(5, 4, **options, spec=spec)
    upstream = torch.randn(2, 3, 4)
    table(INDICES).backward(upstream)
    assert table.weight.grad is not None
    torch.testing.assert_close(table.weight.grad, plain_gradient(INDICES, upstream, **options))


@pytest.mark.parametrize("options", [{}, {"padding_idx": 1}], ids=str)
def test_sparse_gradients_stay_sparse(options: dict[str, Any]) -> None:
    spec = EmbeddingSpec(weight=WeightSpec.model_validate({"estimator": "identity"}))
    table = BinaryEmbedding(5, 4, sparse=True, **options, spec=spec)
    upstream = torch.randn(2, 3, 4)
    table(INDICES).backward(upstream)
    assert table.weight.grad is not None
    assert table.weight.grad.is_sparse
    torch.testing.assert_close(table.weight.grad.to_dense(), plain_gradient(INDICES, upstream, **options))
    torch.optim.SparseAdam(table.parameters(), lr=0.1).step()


def test_max_norm_limits_the_latent_rows_that_are_looked_up() -> None:
    layer, table = nn.Embedding(5, 4, max_norm=0.5, norm_type=1.0), BinaryEmbedding(5, 4, max_norm=0.5, norm_type=1.0)
    table.load_state_dict(layer.state_dict())
    layer(INDICES)
    found = table(INDICES)
    assert torch.equal(table.weight, layer.weight)
    w = layer.weight.detach()
    torch.testing.assert_close(found, (BF.sign(w) * w.abs().mean(1, keepdim=True))[INDICES])


def test_padding_row_of_zeros_stays_next_to_nothing() -> None:
    table = BinaryEmbedding(5, 4, padding_idx=0)
    assert bool((table(torch.tensor([0])).abs() < 1e-18).all())


def test_padding_row_of_a_split_table_gets_no_gradient() -> None:
    table = BinaryEmbedding(5, 4, padding_idx=1, spec=SPLIT)
    table(INDICES).sum().backward()
    for half in (table.binary.weight.first, table.binary.weight.second):
        assert half.grad is not None
        assert not half.grad[1].any()
        assert half.grad[2].any()


@pytest.mark.parametrize("options", [{"sparse": True}, {"max_norm": 1.0}], ids=str)
def test_what_a_split_table_cannot_do_is_said(options: dict[str, Any]) -> None:
    with pytest.raises(BinarizeError, match="sparse gradients or max_norm cannot be split"):
        BinaryEmbedding(5, 4, **options, spec=SPLIT)


def test_all_zero_rows_get_a_gradient() -> None:
    table = BinaryEmbedding(5, 4)
    with torch.no_grad():
        table.weight.zero_()
    upstream = torch.randn(2, 3, 4)
    table(INDICES).backward(upstream)
    assert table.weight.grad is not None
    torch.testing.assert_close(table.weight.grad, plain_gradient(INDICES, upstream))


def test_given_weights_and_freezing() -> None:
    weight = torch.randn(5, 4)
    table = BinaryEmbedding(5, 4, _weight=weight, _freeze=True)
    assert torch.equal(table.weight, weight)
    assert not table.weight.requires_grad
    assert table(INDICES).grad_fn is None
    trainable = BinaryEmbedding.from_pretrained(weight, freeze=False, padding_idx=2)
    assert isinstance(trainable, BinaryEmbedding)
    assert trainable.padding_idx == 2
    assert trainable(INDICES).requires_grad


def test_index_outside_the_table_is_an_error() -> None:
    with pytest.raises(IndexError):
        BinaryEmbedding(5, 4)(torch.tensor([5]))

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bnnapps
from bnnapps.errors import BinarizeError
from bnnapps.nn import BinaryEmbeddingBag, EmbeddingSpec, WeightSpec
from bnnapps.nn import functional as BF

INDICES = torch.tensor([1, 1, 2, 0, 4, 1, 3])
OFFSETS = torch.tensor([0, 2, 2, 6])  # the second bag is empty
SPLIT = EmbeddingSpec(weight=WeightSpec.model_validate({"kind": "split", "estimator": "identity"}))
IDENTITY = EmbeddingSpec(weight=WeightSpec.model_validate({"estimator": "identity"}))
MODES = ["sum", "mean", "max"]
by_mode = pytest.mark.parametrize("mode", MODES)
by_padding = pytest.mark.parametrize("padding_idx", [None, 1, -2])


def pair(spec: EmbeddingSpec | None = None, **options: Any) -> tuple[nn.EmbeddingBag, Any]:
    """A float bag whose table is the deployed table of the twin, and the twin."""
    options = {"dtype": torch.float64} | options
    twin = BinaryEmbeddingBag(5, 4, **options, spec=spec)
    layer = nn.EmbeddingBag(5, 4, **options)
    layer.load_state_dict(twin.binary_tensors())
    return layer, twin


SPECS = {
    "default": WeightSpec(),
    "centred": WeightSpec(transform="centre", scale_of="latent"),
    "over the layer": WeightSpec(transform="centre", over="layer", scale_over="layer", detach_mean=True),
    "ternary": WeightSpec(kind="ternary", scale_over="layer"),
    "affine": WeightSpec(scale="affine"),
    "no scale": WeightSpec(scale="none"),
    "split": SPLIT.weight,
}


@by_mode
@by_padding
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_bags_are_those_of_the_deployed_table(mode: str, padding_idx: int | None, spec: WeightSpec) -> None:
    layer, twin = pair(EmbeddingSpec(weight=spec), mode=mode, padding_idx=padding_idx)
    torch.testing.assert_close(twin(INDICES, OFFSETS), layer(INDICES, OFFSETS))
    torch.testing.assert_close(twin(INDICES[:6].view(2, 3)), layer(INDICES[:6].view(2, 3)))
    short = INDICES.int(), OFFSETS.int()
    torch.testing.assert_close(twin(*short), layer(*short))


@by_mode
@pytest.mark.parametrize("spec", [None, SPLIT], ids=["binary", "split"])
def test_include_last_offset(mode: str, spec: EmbeddingSpec | None) -> None:
    layer, twin = pair(spec, mode=mode, include_last_offset=True)
    offsets = torch.tensor([0, 2, 5, 7])
    assert twin(INDICES, offsets).shape == (3, 4)
    torch.testing.assert_close(twin(INDICES, offsets), layer(INDICES, offsets))


@by_padding
@pytest.mark.parametrize("spec", [None, SPLIT], ids=["binary", "split"])
def test_per_sample_weights_and_their_gradient(padding_idx: int | None, spec: EmbeddingSpec | None) -> None:
    layer, twin = pair(spec, mode="sum", padding_idx=padding_idx)
    ours = torch.randn(7, dtype=torch.float64).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    upstream = torch.randn(4, 4, dtype=torch.float64)
    found, expected = twin(INDICES, OFFSETS, ours), layer(INDICES, OFFSETS, theirs)
    torch.testing.assert_close(found, expected)
    found.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad)
    with pytest.raises(NotImplementedError, match="per_sample_weights"):
        pair(spec, mode="mean")[1](INDICES, OFFSETS, ours)


@by_mode
@by_padding
def test_the_latent_table_gets_the_gradient_of_the_deployed_one(mode: str, padding_idx: int | None) -> None:
    """With an identity estimator and scale * sign as one quantizer nothing else happens to it."""
    layer, twin = pair(IDENTITY, mode=mode, padding_idx=padding_idx)
    upstream = torch.randn(4, 4, dtype=torch.float64)
    twin(INDICES, OFFSETS).backward(upstream)
    layer(INDICES, OFFSETS).backward(upstream)
    assert layer.weight.grad is not None
    torch.testing.assert_close(twin.weight.grad, layer.weight.grad)


@pytest.mark.parametrize("mode", ["sum", "mean"])
@by_padding
@pytest.mark.parametrize("spec", [IDENTITY, SPLIT], ids=["binary", "split"])
def test_gradients_are_divided_by_how_often_an_index_occurs(
    mode: str, padding_idx: int | None, spec: EmbeddingSpec
) -> None:
    """Closed form; the float layer of PyTorch 2.11 divides by the count of another index on a CPU."""
    _, plain = pair(spec, mode=mode, padding_idx=padding_idx)
    _, twin = pair(spec, mode=mode, padding_idx=padding_idx, scale_grad_by_freq=True)
    twin.load_state_dict(plain.state_dict())
    upstream = torch.randn(4, 4, dtype=torch.float64)
    for bag in (plain, twin):
        bag(INDICES, OFFSETS).backward(upstream)
    counts = torch.bincount(INDICES, minlength=5).clamp(min=1).view(-1, 1)
    whole, divided = (b.binary.weight.first if spec is SPLIT else b.weight for b in (plain, twin))
    torch.testing.assert_close(divided.grad, whole.grad / counts)


@pytest.mark.parametrize("mode", ["sum", "mean"])
@by_padding
def test_sparse_gradients_stay_sparse(mode: str, padding_idx: int | None) -> None:
    layer, twin = pair(IDENTITY, mode=mode, padding_idx=padding_idx, sparse=True)
    upstream = torch.randn(4, 4, dtype=torch.float64)
    twin(INDICES, OFFSETS).backward(upstream)
    layer(INDICES, OFFSETS).backward(upstream)
    assert layer.weight.grad is not None
    assert twin.weight.grad.is_sparse
    torch.testing.assert_close(twin.weight.grad.to_dense(), layer.weight.grad.to_dense())
    torch.optim.SparseAdam(twin.parameters(), lr=0.1).step()


@pytest.mark.parametrize("options", [{"sparse": True}, {"scale_grad_by_freq": True}], ids=str)
def test_what_the_mode_max_cannot_do_is_said(options: dict[str, Any]) -> None:
    layer, twin = pair(mode="max", **options)
    for net in (layer, twin):
        with pytest.raises(ValueError, match="max"):
            net(INDICES, OFFSETS)


def test_max_norm_limits_the_latent_rows_that_are_looked_up() -> None:
    layer, twin = nn.EmbeddingBag(5, 4, max_norm=0.5), BinaryEmbeddingBag(5, 4, max_norm=0.5)
    twin.load_state_dict(layer.state_dict())
    layer(INDICES[:5], OFFSETS[:2])
    found = twin(INDICES[:5], OFFSETS[:2])
    assert torch.equal(twin.weight, layer.weight)
    w = layer.weight.detach()
    rows = BF.sign(w) * w.abs().mean(1, keepdim=True)
    torch.testing.assert_close(found, torch.stack([rows[[1, 1]].mean(0), rows[[2, 0, 4]].mean(0)]))


@by_mode
@by_padding
def test_jagged_bags(mode: str, padding_idx: int | None) -> None:
    layer, twin = pair(mode=mode, padding_idx=padding_idx)
    bags = torch.nested.nested_tensor([INDICES[:2], INDICES[2:6], INDICES[6:]], layout=torch.jagged)
    torch.testing.assert_close(twin(bags), layer(bags))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=5),
    st.sampled_from(MODES),
    st.sampled_from([None, 0, 3]),
)
def test_bags_of_any_sizes(bags: list[list[int]], mode: str, padding_idx: int | None) -> None:
    _, twin = pair(mode=mode, padding_idx=padding_idx)
    starts = [sum(len(b) for b in bags[:i]) for i in range(len(bags))]
    found = twin(torch.tensor([i for bag in bags for i in bag], dtype=torch.long), torch.tensor(starts))
    table = twin.binary_tensors()["weight"]
    for bag, result in zip(bags, found, strict=True):
        rows = table[[i for i in bag if i != padding_idx]]
        if len(rows):
            expected: Tensor = {"sum": rows.sum(0), "mean": rows.mean(0), "max": rows.amax(0)}[mode]
        else:
            expected = torch.zeros(4, dtype=table.dtype)
        torch.testing.assert_close(result, expected)


def test_a_rows_scale_is_its_mean_magnitude() -> None:
    _, twin = pair(mode="sum")
    w = twin.weight.detach()
    torch.testing.assert_close(twin.binary_tensors()["weight"], BF.sign(w) * w.abs().mean(1, keepdim=True))


@pytest.mark.parametrize("options", [{"sparse": True}, {"max_norm": 1.0}], ids=str)
def test_what_a_split_table_cannot_do_is_said(options: dict[str, Any]) -> None:
    with pytest.raises(BinarizeError, match="an embedding bag with sparse gradients or max_norm cannot be split"):
        BinaryEmbeddingBag(5, 4, **options, spec=SPLIT)
    model = nn.ModuleDict({"tags": nn.EmbeddingBag(5, 4, **options)})
    with pytest.raises(BinarizeError, match="'tags', an embedding bag with sparse"):
        bnnapps.plan(model, [{"types": ["embedding_bag"], "use": "binarybert"}], keep_first=0, keep_last=0)


def test_padding_row_of_a_split_table_gets_no_gradient() -> None:
    _, twin = pair(SPLIT, padding_idx=1)
    twin(INDICES, OFFSETS).sum().backward()
    for half in (twin.binary.weight.first, twin.binary.weight.second):
        assert not half.grad[1].any()
        assert half.grad[2].any()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("spec", [None, SPLIT], ids=["binary", "split"])
def test_copies(how: Any, spec: EmbeddingSpec | None) -> None:
    _, twin = pair(spec, padding_idx=1)
    assert torch.equal(how(twin)(INDICES, OFFSETS), twin(INDICES, OFFSETS))


def test_given_weights_and_pretrained_tables() -> None:
    weight = torch.randn(5, 4)
    bag = BinaryEmbeddingBag.from_pretrained(weight, mode="sum", padding_idx=2)
    assert isinstance(bag, BinaryEmbeddingBag)
    assert torch.equal(bag.weight, weight)
    assert not bag.weight.requires_grad
    assert bag(INDICES, OFFSETS).grad_fn is None


def test_index_outside_the_table_is_an_error() -> None:
    with pytest.raises(IndexError):
        BinaryEmbeddingBag(5, 4)(torch.tensor([[5]]))
    with pytest.raises(ValueError, match="offsets"):
        BinaryEmbeddingBag(5, 4)(INDICES)

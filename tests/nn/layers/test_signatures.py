from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from bnnapps.nn import (
    BinaryBilinear,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryEmbedding,
    BinaryEmbeddingBag,
    BinaryGRUCell,
    BinaryLayer,
    BinaryLinear,
    BinaryLSTMCell,
    BinaryMultiheadAttention,
    BinaryRNNCell,
)

PAIRS: dict[type[nn.Module], tuple[type[nn.Module], tuple[Any, ...]]] = {
    BinaryLinear: (nn.Linear, (4, 6)),
    BinaryConv1d: (nn.Conv1d, (4, 6, 3)),
    BinaryConv2d: (nn.Conv2d, (4, 6, 3)),
    BinaryConv3d: (nn.Conv3d, (4, 6, 3)),
    BinaryEmbedding: (nn.Embedding, (10, 4)),
    BinaryMultiheadAttention: (nn.MultiheadAttention, (4, 2)),
    BinaryConvTranspose1d: (nn.ConvTranspose1d, (4, 6, 3)),
    BinaryConvTranspose2d: (nn.ConvTranspose2d, (4, 6, 3)),
    BinaryConvTranspose3d: (nn.ConvTranspose3d, (4, 6, 3)),
    BinaryBilinear: (nn.Bilinear, (4, 6, 3)),
    BinaryEmbeddingBag: (nn.EmbeddingBag, (10, 4)),
    BinaryRNNCell: (nn.RNNCell, (4, 6)),
    BinaryLSTMCell: (nn.LSTMCell, (4, 6)),
    BinaryGRUCell: (nn.GRUCell, (4, 6)),
}
by_pair = pytest.mark.parametrize("twin", PAIRS, ids=lambda c: c.__name__)


@by_pair
def test_constructor_is_that_of_the_float_class_plus_spec(twin: Any) -> None:
    base, _ = PAIRS[twin]
    ours, theirs = inspect.signature(twin).parameters, inspect.signature(base).parameters
    assert list(ours) == [*theirs, "spec"]
    for name, parameter in theirs.items():
        assert ours[name].default == parameter.default, name
        assert ours[name].kind == parameter.kind, name
    assert ours["spec"].kind is inspect.Parameter.KEYWORD_ONLY
    assert ours["spec"].default is None


@by_pair
def test_forward_takes_what_the_float_class_takes(twin: Any) -> None:
    base, _ = PAIRS[twin]
    ours, theirs = inspect.signature(twin.forward).parameters, inspect.signature(base.forward).parameters
    assert {n: (p.kind, p.default) for n, p in ours.items()} == {n: (p.kind, p.default) for n, p in theirs.items()}


@by_pair
def test_is_a_subclass_that_keeps_keys_values_and_attributes(twin: Any) -> None:
    base, arguments = PAIRS[twin]
    assert issubclass(twin, base)
    assert issubclass(twin, BinaryLayer)
    assert twin.replaces is base
    torch.manual_seed(5)
    theirs = base(*arguments)
    torch.manual_seed(5)
    ours = twin(*arguments)
    assert {
        k: v for k, v in ours.state_dict().items() if not k.startswith("binary.")
    }.keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)
    private = {"_modules", "_parameters", "_forward_pre_hooks"}
    for name, value in theirs.__dict__.items():
        if name not in private:
            assert ours.__dict__[name] == value, name
    assert set(ours.__dict__) - set(theirs.__dict__) == {"spec"}


@by_pair
@pytest.mark.parametrize("options", [{"dtype": torch.float64}, {"device": "cpu"}, {"dtype": torch.bfloat16}], ids=str)
def test_device_and_dtype_reach_every_parameter(twin: Any, options: dict[str, Any]) -> None:
    _, arguments = PAIRS[twin]
    layer = twin(*arguments, **options)
    assert {p.dtype for p in layer.parameters()} == {options.get("dtype", torch.float32)}

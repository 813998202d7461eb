"""Subclasses of PyTorch's layers, as other libraries have them: those that compute the same, and those that do not."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d
from timm.layers import Linear as TimmLinear
from torch import Tensor, nn
from transformers.models.bart.modeling_bart import BartScaledWordEmbedding
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.binarize.registry import type_of
from bnnapps.errors import BinarizeError
from bnnapps.nn import BinaryConv2d, BinaryEmbedding, BinaryLinear
from bnnapps.nn.functional import sign

MMCV = "mmcv.cnn.bricks.wrappers"


def wrapper(base: type[nn.Module], module: str = MMCV) -> Any:
    """A class like those of mmcv: of the same name, with a forward that leaves the work to PyTorch's class."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        result: Tensor = base.forward(self, x)
        return result

    return type(base.__name__, (base,), {"forward": forward, "__module__": module})


def rules(keys: list[str], use: Any = "bireal") -> dict[str, Any]:
    return {"rules": [Rule(types=keys, use=use)], "keep_first": 0, "keep_last": 0}


CASES: dict[str, tuple[type[nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    "linear": (nn.Linear, (4, 6), (3, 4)),
    "conv2d": (nn.Conv2d, (2, 4, 3), (3, 2, 5, 5)),
    "conv3d": (nn.Conv3d, (2, 4, 2), (3, 2, 3, 3, 3)),
}


@pytest.mark.parametrize("key", CASES)
def test_wrappers_of_mmcv_are_the_layers_that_they_wrap(key: str) -> None:
    base, arguments, shape = CASES[key]
    kind, x = wrapper(base), torch.randn(shape)
    model, same = nn.Sequential(kind(*arguments)), nn.Sequential(base(*arguments))
    same.load_state_dict(model.state_dict())
    found = type_of(model[0])
    assert found is not None
    assert found.key == key
    plan = bnnapps.plan(model, rules([key]))
    bnnapps.apply_plan(model, plan)
    bnnapps.binarize(same, rules([key]))
    plan.assert_ran(model, x)
    assert torch.equal(model(x), same(x))
    assert model(x[:0]).shape == (0, *model(x).shape[1:])
    assert type(bnnapps.restore(model)[0]) is kind  # type: ignore[index]


def test_a_subclass_with_a_forward_of_its_own_is_none_of_them() -> None:
    assert type_of(wrapper(nn.Linear, "somewhere.else")(4, 6)) is None
    assert type_of(type("Linear2", (wrapper(nn.Linear),), {"__module__": MMCV})(4, 6)) is None
    assert type_of(StdConv2d(2, 4, 3)) is None
    assert type_of(ScaledStdConv2d(2, 4, 3)) is None
    model = nn.Sequential(nn.Conv2d(2, 2, 3), StdConv2d(2, 4, 3))
    with pytest.raises(BinarizeError, match="'1' is a StdConv2d, which has no binary twin"):
        bnnapps.plan(model, [Rule(match="1", use="bireal")])


def test_linear_of_timm_is_a_linear_layer() -> None:
    model = bnnapps.binarize(nn.Sequential(TimmLinear(4, 6)), rules(["linear"]))
    assert isinstance(model[0], BinaryLinear)  # type: ignore[index]
    assert isinstance(model[0], TimmLinear)  # type: ignore[index]


SAME = [((7, 8), 3, 2, 1, 1), ((5, 5), 2, 1, 1, 1), ((9, 6), (3, 5), (2, 3), (2, 1), 2), ((4, 4), 1, 3, 1, 4)]


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation", "groups"), SAME, ids=str)
def test_same_convolution_of_codes_is_the_float_one(
    size: tuple[int, int], kernel: Any, stride: Any, dilation: Any, groups: int
) -> None:
    layer = Conv2dSame(4, 4, kernel, stride=stride, dilation=dilation, groups=groups)
    with torch.no_grad():
        layer.weight.copy_(sign(layer.weight))
    x = sign(torch.randn(2, 4, *size))
    expected = layer(x)
    model = nn.Sequential(layer)
    plan = bnnapps.plan(model, rules(["conv2d"], {"method": "bnn", "pad_value": 0}))
    bnnapps.apply_plan(model, plan)
    assert isinstance(model[0], BinaryConv2d)
    plan.assert_ran(model, x)
    torch.testing.assert_close(model(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))
    assert type(bnnapps.restore(model)[0]) is Conv2dSame  # type: ignore[index]
    assert torch.equal(model(x), expected)


def test_border_of_a_same_convolution_holds_the_pad_value() -> None:
    layer = Conv2dSame(1, 1, 3, stride=2, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    for value, corner in ((0, -4.0), (-1, -9.0), (1, 1.0)):
        rule = rules(["conv2d"], {"method": "bnn", "pad_value": value})
        model = bnnapps.binarize(nn.Sequential(copy.deepcopy(layer)), rule)
        found = model(-torch.ones(1, 1, 4, 4)).detach()  # size 4, stride 2: one row and one column behind
        assert found.shape == (1, 1, 2, 2)
        assert float(found[0, 0, 0, 0]) == -9.0
        assert float(found[0, 0, 1, 1]) == corner


def test_map_of_magnitudes_of_a_same_convolution_has_a_border_of_zeros() -> None:
    layer, x = Conv2dSame(3, 1, 3, stride=2, bias=False), torch.randn(1, 3, 4, 4)
    model = bnnapps.binarize(nn.Sequential(layer), rules(["conv2d"], "xnor"))
    plain = bnnapps.binarize(
        nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 1, 3, stride=2, bias=False)), rules(["conv2d"], "xnor")
    )
    plain.load_state_dict({k.replace("0.", "1.", 1): v for k, v in model.state_dict().items()})
    inner, expected = model(x), plain(x)
    assert torch.equal(inner[..., 0, 0], expected[..., 0, 0])  # no border there
    assert inner.shape == expected.shape


@pytest.mark.parametrize("kind", [BartScaledWordEmbedding, Gemma3TextScaledWordEmbedding])
def test_scaled_word_embeddings_are_embeddings_times_a_constant(kind: Any) -> None:
    model = nn.Sequential(kind(9, 4, 0, embed_scale=3.0))
    plain = nn.Sequential(nn.Embedding(9, 4, 0))
    plain.load_state_dict(model.state_dict())
    indices = torch.tensor([[1, 5, 0]])
    expected = model(indices)
    plan = bnnapps.plan(model, rules(["embedding"]))
    bnnapps.apply_plan(model, plan)
    bnnapps.binarize(plain, rules(["embedding"]))
    plan.assert_ran(model, indices)
    assert isinstance(model[0], BinaryEmbedding)
    assert torch.equal(model(indices), 3 * plain(indices))
    bnnapps.restore(model)
    assert torch.equal(model(indices), expected)

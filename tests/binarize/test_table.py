"""Every record is described in the plan, whatever its fields say."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from bnnapps.binarize.table import describe
from bnnapps.methods import methods
from bnnapps.nn.spec import ActivationSpec, BlockSpec, LinearSpec, OutputSpec, WeightSpec


def choices(record: type[Any], field: str) -> tuple[str, ...]:
    return get_args(record.model_fields[field].annotation)


def test_every_scale_has_words_of_its_own() -> None:
    weights = [LinearSpec(weight=WeightSpec(scale=s)) for s in choices(WeightSpec, "scale")]
    outputs = [LinearSpec(output=OutputSpec(scale=s)) for s in choices(OutputSpec, "scale")]
    activations = [
        LinearSpec(activation=ActivationSpec(scale=s, bits=2 if s == "uniform" else 1, unsigned=s == "unit"))
        for s in choices(ActivationSpec, "scale")
    ]
    for specs in (weights, outputs, activations):
        assert len({describe(s) for s in specs}) == len(specs)


@pytest.mark.parametrize("method", methods(), ids=lambda m: m.name)
def test_every_method_is_described(method: Any) -> None:
    assert all(describe(spec) for spec in method.layers.values())


def test_blocks() -> None:
    assert describe(BlockSpec()) == "one shortcut, norm after conv, own non-linearity after add"
    spec = BlockSpec(shortcut="conv", norm="before", nonlinearity="prelu", nonlinearity_at="before_add")
    assert describe(spec) == "shortcut per conv, norm before conv, prelu before add"
    bireal = BlockSpec(shortcut="conv", nonlinearity="none", downsample="avgpool")
    assert describe(bireal) == "shortcut per conv, norm after conv, no non-linearity, average-pooled branch"


def test_what_a_layer_computes() -> None:
    spec = LinearSpec(weight=WeightSpec(scale="none"), output=OutputSpec(scale="gate"))
    assert describe(spec) == "±1 · ±1 · gate"

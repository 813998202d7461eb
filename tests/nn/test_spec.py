from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bnnapps.errors import BinarizeError
from bnnapps.nn import ActivationSpec, AttentionSpec, ConvSpec, EmbeddingSpec, EstimatorSpec, LinearSpec, WeightSpec
from bnnapps.nn.spec import Spec, activation_paths, override


def test_an_estimator_can_be_given_by_name() -> None:
    assert ActivationSpec.model_validate({"estimator": "swish"}).estimator == EstimatorSpec(name="swish")


@pytest.mark.parametrize(
    ("record", "values", "message"),
    [
        (ActivationSpec, {"bits": 2}, "bits is 2, so scale must be 'elastic', 'uniform' or 'unit', not 'none'"),
        (ActivationSpec, {"bits": 1, "scale": "uniform"}, "scale 'uniform' needs at least 2 bits"),
        (ActivationSpec, {"bits": 0}, "greater than or equal to 1"),
        (ActivationSpec, {"bits": "2", "scale": "elastic"}, "valid integer"),
        (ConvSpec, {"pad_value": -1, "activation": {"unsigned": True}}, "pad_value is -1"),
        (ConvSpec, {"pad_value": 2}, "-1, 0 or 1"),
        (EstimatorSpec, {"name": "clip", "limit": 0.0}, "greater than 0"),
        (AttentionSpec, {"key": {"scale": "input_map"}}, "key.scale is 'input_map'"),
        (AttentionSpec, {"weights": {"shift": "channel"}}, "attention weights have no channels"),
        (WeightSpec, {"transfrom": "centre"}, "Extra inputs"),
    ],
)
def test_values_that_do_not_fit_are_refused(record: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        record.model_validate(values)


def test_records_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        LinearSpec().weight = None  # type: ignore[misc]


@pytest.mark.parametrize(
    ("spec", "changes", "path", "expected"),
    [
        (LinearSpec(), {"activation.estimator": "ede"}, "activation.estimator.name", "ede"),
        (LinearSpec(), {"activation.estimator.limit": 1.25}, "activation.estimator.limit", 1.25),
        (LinearSpec(), {"activation.estimator.limit": 2}, "activation.estimator.limit", 2.0),
        (LinearSpec(), {"activation": {"unsigned": True}}, "activation.unsigned", True),
        (LinearSpec(), {"activation": {"estimator.name": "ede"}}, "activation.estimator.name", "ede"),
        (LinearSpec(), {"activation": None}, "activation", None),
        (LinearSpec(activation=None), {"activation.unsigned": True}, "activation.unsigned", True),
        (ConvSpec(), {"pad_value": 1}, "pad_value", 1),
        (EmbeddingSpec(), {"weight.scale_over": "layer"}, "weight.scale_over", "layer"),
        (AttentionSpec(), {"projection.weight.scale": "none"}, "projection.weight.scale", "none"),
        (AttentionSpec(), {"query": None}, "query", None),
        (LinearSpec(), {}, "activation.bits", 1),
    ],
)
def test_override(spec: Spec, changes: dict[str, Any], path: str, expected: object) -> None:
    before = spec.model_dump()
    value: Any = override(spec, changes, "here")
    for part in path.split("."):
        value = getattr(value, part)
    assert value == expected
    assert spec.model_dump() == before


def test_an_override_leaves_the_other_fields() -> None:
    spec = LinearSpec(activation=ActivationSpec(shift="channel", estimator=EstimatorSpec(name="polynomial")))
    found = override(spec, {"activation": {"unsigned": True}}, "here")
    assert isinstance(found, LinearSpec)
    assert found.activation == ActivationSpec(
        shift="channel", estimator=EstimatorSpec(name="polynomial"), unsigned=True
    )


def test_activation_bits_reach_every_activation_that_is_there() -> None:
    elastic = ActivationSpec(scale="elastic")
    spec = AttentionSpec(
        query=elastic, key=elastic, value=None, weights=elastic, projection=LinearSpec(activation=elastic)
    )
    assert activation_paths(spec) == [("query",), ("key",), ("weights",), ("projection", "activation")]
    found = override(spec, {"activation_bits": 2}, "here")
    assert isinstance(found, AttentionSpec)
    for operand in (found.query, found.key, found.weights, found.projection.activation):
        assert operand is not None
        assert operand.bits == 2
    assert found.value is None
    assert override(LinearSpec(activation=elastic), {"activation_bits": 4}, "here") == LinearSpec(
        activation=ActivationSpec(scale="elastic", bits=4)
    )


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (LinearSpec(), {"weight.transfrom": "centre"}, "here: unknown key 'weight.transfrom'; .*'transform'"),
        (LinearSpec(), {"pad_value": 1}, "here: unknown key 'pad_value'"),
        (LinearSpec(), {"weight.scale": "mean"}, "here: key 'weight.scale' is 'mean'; .*'mean_abs'"),
        (LinearSpec(), {"activation.bits": 2}, "here: .*scale must be 'elastic', 'uniform' or 'unit'"),
        (LinearSpec(), {"activation_bits": 2}, "here: .*scale must be 'elastic', 'uniform' or 'unit'"),
        (LinearSpec(), {"activation.estimator": "sigmoid"}, "here: key 'activation.estimator.name' is 'sigmoid'"),
        (EmbeddingSpec(), {"activation_bits": 2}, "here: unknown key 'activation_bits'"),
        (EmbeddingSpec(), {"weight": None}, "here: key 'weight' is None"),
        (ConvSpec(), {"pad_value": 0.5}, "here: key 'pad_value' is 0.5"),
        (LinearSpec(), {"weight.detach_mean": "yes"}, "here: key 'weight.detach_mean' is 'yes'; .*boolean"),
    ],
)
def test_an_override_that_does_not_fit_names_place_key_and_value(
    spec: Spec, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BinarizeError, match=message) as caught:
        override(spec, changes, "here")
    assert "\n" not in str(caught.value)


def test_a_record_survives_json() -> None:
    spec = AttentionSpec(query=None, projection=LinearSpec(weight=WeightSpec(kind="ternary")))
    assert AttentionSpec.model_validate_json(spec.model_dump_json()) == spec

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field

from bnnapps.errors import BinarizeError, nearest
from bnnapps.validation import Record, deep_set, explain, field_paths, merged, validated


class Inner(Record):
    size: int = Field(default=1, ge=0)
    name: Literal["a", "b"] = "a"


class Outer(Record):
    inner: Inner = Inner()
    other: Inner | None = None
    rate: float = 0.5
    names: tuple[str, ...] = ()
    required: str


VALID: dict[str, Any] = {"required": "yes"}
MESSAGES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["key 'required' is missing"]),
    ({"required": "x", "rte": 1.0}, ["unknown key 'rte'; the nearest valid keys are 'rate'"]),
    ({"required": "x", "inner": {"siez": 1}}, ["unknown key 'inner.siez'; the nearest valid keys are 'size'"]),
    ({"required": "x", "other": {"nme": "a"}}, ["unknown key 'other.nme'; the nearest valid keys are 'name'"]),
    ({"required": "x", "rate": "fast"}, ["key 'rate' is 'fast'; ", "number"]),
    ({"required": "x", "inner": {"size": -1}}, ["key 'inner.size' is -1; ", "greater than or equal to 0"]),
    ({"required": "x", "inner": {"size": 1.5}}, ["key 'inner.size' is 1.5; "]),
    ({"required": "x", "inner": {"size": True}}, ["key 'inner.size' is True; "]),
    ({"required": "x", "inner": {"name": "c"}}, ["key 'inner.name' is 'c'; ", "'a' or 'b'"]),
    ({"required": 3}, ["key 'required' is 3; ", "string"]),
    ({"required": "x", "names": ("a", 2)}, ["key 'names.1' is 2; "]),
    ({"required": "x", "inner": 5}, ["key 'inner' is 5; "]),
    (
        {"rate": "x", "inner": {"size": "y"}},
        ["key 'rate' is 'x'", "key 'inner.size' is 'y'", "key 'required' is missing"],
    ),
]


@pytest.mark.parametrize(("values", "parts"), MESSAGES, ids=str)
def test_messages_name_key_value_and_what_was_expected(values: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(BinarizeError) as caught:
        validated(Outer, values, "file.yaml", BinarizeError)
    message = str(caught.value)
    assert message.startswith("file.yaml: ")
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_whole_number_serves_as_a_real_one() -> None:
    assert validated(Outer, VALID | {"rate": 2}, "here", BinarizeError).rate == 2.0


def test_merged_changes_a_copy() -> None:
    record = Outer(required="yes")
    found = merged(record, {"inner.size": 4, "other": {"name": "b"}, "rate": 0.1}, "here", BinarizeError)
    assert found == Outer(required="yes", inner=Inner(size=4), other=Inner(name="b"), rate=0.1)
    assert record == Outer(required="yes")


@pytest.mark.parametrize(
    ("values", "path", "value", "expected"),
    [
        ({}, "a", 1, {"a": 1}),
        ({}, "a.b.c", 1, {"a": {"b": {"c": 1}}}),
        ({"a": {"b": 1, "c": 2}}, "a.b", 5, {"a": {"b": 5, "c": 2}}),
        ({"a": {"b": 1, "c": 2}}, "a", {"b": 5}, {"a": {"b": 5, "c": 2}}),
        ({"a": {"b": {"c": 1, "d": 2}}}, "a", {"b.c": 5}, {"a": {"b": {"c": 5, "d": 2}}}),
        ({"a": None}, "a.b", 1, {"a": {"b": 1}}),
        ({"a": 3}, "a.b", 1, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, "a", None, {"a": None}),
        ({"a": [1, 2]}, "a", [3], {"a": [3]}),
        ({"a": 1}, "a", {"b": 2}, {"a": {"b": 2}}),
    ],
)
def test_deep_set(values: dict[str, Any], path: str, value: Any, expected: dict[str, Any]) -> None:
    deep_set(values, path.split("."), value)
    assert values == expected


def test_every_key_of_a_record() -> None:
    assert list(field_paths(Inner)) == ["size", "name"]
    assert set(field_paths(Outer)) == {
        "inner",
        "inner.size",
        "inner.name",
        "other",
        "other.size",
        "other.name",
        "rate",
        "names",
        "required",
    }


def test_explain_says_each_thing_once() -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"required": "x", "other": {"size": "big"}})
    assert explain(caught.value, Outer).count("key 'other.size'") == 1


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("bibret", ["bibert", "bit", "bnn", "xnor"], "'bibert', 'bit', 'bnn'"),
        ("a", ["b"], "'b'"),
        ("a", [], "(there are none)"),
        ("layer1.conv", ["layer1.conv1", "layer1.conv1", "head"], "'layer1.conv1', 'head'"),
    ],
)
def test_nearest_names(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected

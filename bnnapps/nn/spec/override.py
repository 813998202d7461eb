"""Changing single fields of a record by their dotted names."""

from __future__ import annotations

from typing import Any

from bnnapps.errors import BinarizeError
from bnnapps.nn.spec.kinds import Spec
from bnnapps.nn.spec.parts import ActivationSpec
from bnnapps.validation import Record, deep_set, field_paths, validated


def override(spec: Spec, changes: dict[str, Any], where: str) -> Spec:
    """The record with some fields replaced; keys are dotted names or nested mappings.

    `activation_bits` is short for the bits of every activation in the record.

    Raises:
        BinarizeError: an unknown field (the nearest are named), or a value that does not fit.

    """
    values = spec.model_dump()
    for key, value in changes.items():
        if key == "activation_bits" and activation_paths(spec):
            for path in activation_paths(spec):
                deep_set(values, [*path, "bits"], value)
        else:
            deep_set(values, key.split("."), value)
    return validated(type(spec), values, where, BinarizeError)


def accepts(spec: Spec, key: str) -> bool:
    """Whether the record has the dotted field `key` (or, for `activation_bits`, any activation)."""
    return bool(activation_paths(spec)) if key == "activation_bits" else key in set(field_paths(type(spec)))


def activation_paths(spec: Record, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where the record holds activations: [("query",), ("projection", "activation"), ...]."""
    found: list[tuple[str, ...]] = []
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, ActivationSpec):
            found.append((*prefix, name))
        elif isinstance(value, Record):
            found += activation_paths(value, (*prefix, name))
    return found

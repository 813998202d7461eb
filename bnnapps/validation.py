"""Typed records with strict fields, and one-line messages for what does not fit them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from bnnapps.errors import nearest


class Record(BaseModel):
    """A frozen, strict record: unknown fields and wrong types are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, validate_default=True
    )


R = TypeVar("R", bound=BaseModel)

Options = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)]
"""Arguments by name. `null` empties what a recipe or profile had there: what one network takes may not fit another."""


def merged(record: R, changes: Mapping[str, Any], where: str, error: type[Exception]) -> R:
    """A copy of `record` with some fields changed: keys are dotted names or nested mappings.

    Raises `error` with one message that names the place, the key, the value and what was expected.
    """
    values = record.model_dump()
    for key, value in changes.items():
        deep_set(values, key.split("."), value)
    return validated(type(record), values, where, error)


def validated(kind: type[R], values: Any, where: str, error: type[Exception]) -> R:
    """`values` as a record of the given kind, or `error` with a one-line message."""
    try:
        return kind.model_validate(values)
    except ValidationError as problem:
        raise error(f"{where}: {explain(problem, kind)}") from None


def deep_set(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set `values[path[0]][path[1]]...`; a mapping is merged into what stands there."""
    head, rest = path[0], path[1:]
    if rest:
        if not isinstance(values.get(head), dict):
            values[head] = {}
        deep_set(values[head], rest, value)
    elif isinstance(value, Mapping) and isinstance(values.get(head), dict):
        for key, inner in value.items():
            deep_set(values[head], str(key).split("."), inner)
    else:
        values[head] = value


def explain(problem: ValidationError, kind: type[BaseModel]) -> str:
    """Each problem as "key 'a.b' is VALUE; expected ...", the nearest key named for an unknown one."""
    lines = []
    for item in problem.errors(include_url=False):
        key = ".".join(str(p) for p in item["loc"] if not _is_tag(p, kind))
        if item["type"] == "extra_forbidden":
            known = list(_siblings(kind, item["loc"][:-1])) or list(field_paths(kind))
            name = str(item["loc"][-1])
            lines.append(f"unknown key '{key}'; the nearest valid keys are {nearest(name, known)}")
        elif item["type"] == "missing":
            lines.append(f"key '{key}' is missing")
        elif item["type"] == "value_error":
            reason = item["msg"].removeprefix("Value error, ")
            lines.append(f"key '{key}': {reason}" if key else reason)
        else:
            message = item["msg"][0].lower() + item["msg"][1:]
            lines.append(f"key '{key}' is {item['input']!r}; {message}")
    return "; ".join(dict.fromkeys(lines))


def _is_tag(part: int | str, kind: type[BaseModel]) -> bool:
    """Whether a location part names a branch of a union rather than a key."""
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in ("str", "int", "float", "bool"))


def _siblings(kind: type[BaseModel], path: tuple[int | str, ...]) -> Iterator[str]:
    kinds = [kind]
    for part in path:
        if isinstance(part, int) or _is_tag(part, kind):
            continue
        kinds = [k for parent in kinds if part in parent.model_fields for k in _records(parent, part)]
    for k in kinds:
        yield from (f.alias or name for name, f in k.model_fields.items())


def _records(parent: type[BaseModel], name: str) -> list[type[BaseModel]]:
    def walk(annotation: Any) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for argument in get_args(annotation):
            yield from walk(argument)

    return list(walk(parent.model_fields[name].annotation))


def field_paths(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that the record accepts."""
    for name in kind.model_fields:
        yield prefix + name
        for inner in _records(kind, name):
            yield from field_paths(inner, f"{prefix}{name}.")

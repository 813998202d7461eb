"""A run goes on only with the recipe that it began with; what differs is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bnnapps.errors import UsageError

_SHOWN = 5
_FREE = ("export", "profile", "profiles")
"""Keys that change nothing in the weights: after the training anything may be exported."""


def recipe_changes(before: Any, after: Any, key: str = "") -> Iterator[str]:
    """Each key that differs between two recipes as plain data: `train.epochs was 3, is 4`.

    Entries of lists go by their names, where all have one, else by their numbers.
    """
    old, new = _keyed(before), _keyed(after)
    if old is not None and new is not None and (old or new):
        for name in dict.fromkeys([*old, *new]):
            inner = f"{key}.{name}" if key else str(name)
            if name not in old:
                yield f"{inner} is new"
            elif name not in new:
                yield f"{inner} is gone"
            else:
                yield from recipe_changes(old[name], new[name], inner)
    elif before != after:
        yield f"{key} was {_short(before)}, is {_short(after)}"


def _keyed(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, list):
        return None
    names = [entry.get("name") if isinstance(entry, Mapping) else None for entry in value]
    by_name = None not in names and len(set(names)) == len(names)
    return dict(zip(names, value, strict=True)) if by_name else dict(enumerate(value))


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else "null" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_same(before: Mapping[str, Any], after: Mapping[str, Any], where: str) -> None:
    """Raise `UsageError`, with the keys that differ, where two recipes would not train the same."""
    changes = list(recipe_changes(_trained(before), _trained(after)))
    if changes:
        more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        raise UsageError(
            f"{where} of another recipe: {'; '.join(changes[:_SHOWN])}{more}. Resume it without a recipe or --set and "
            "with recipe.yaml as it was written, or start a new run with another --out"
        )


def _trained(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key not in _FREE}

"""Reading recipes: YAML, profiles, overrides, and one-line errors for what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bnnapps.errors import RecipeError, nearest
from bnnapps.plugin import get_plugin
from bnnapps.recipe.reader import read_yaml
from bnnapps.recipe.schema import Recipe
from bnnapps.validation import validated


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a file (or of a shipped recipe's name), with its profile and the overrides laid over it.

    Args:
        source: a path, or the name of a shipped recipe such as `bibert_glue`.
        overrides: `key=value` with dotted keys; values are YAML. `profile=NAME` picks a profile first, `A+B` two, of
            which the later wins. Entries of a list go by their name or number; `null` for one removes it.

    Raises:
        RecipeError: the file is missing or no YAML mapping, or something in it does not fit.
    """
    path = find_recipe(source)
    values = read_mapping(path)
    changes = [_parse(text) for text in overrides]
    _lay_profile(values, changes, path)
    for key, value in changes:
        if key != "profile":
            _set(values, key, value)
    return as_recipe(values, str(path))


def change_values(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Lay overrides over the plain values of a recipe, in place; there is no profile among them.

    Raises:
        RecipeError: one cannot be read, or leads through what is no mapping or list.
    """
    for text in overrides:
        _set(values, *_parse(text))


def as_recipe(values: dict[str, Any], where: str) -> Recipe:
    """Plain values as the recipe class of their task."""
    task = values.get("task")
    if not isinstance(task, str):
        raise RecipeError(f"{where}: key 'task' is {task!r}; expected a task's name, see `bnnapps list tasks`")
    return validated(get_plugin(task, where).recipe, values, where, RecipeError)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every key, as YAML that `load_recipe` reads back equal."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    import bnnapps.recipes

    folder = Path(bnnapps.recipes.__file__).parent
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def find_recipe(source: str | Path) -> Path:
    """The path of a recipe given as a path or as a shipped recipe's name."""
    path = Path(source)
    if path.is_file():
        return path
    known = shipped_recipes()
    if str(source) in known:
        return known[str(source)]
    raise RecipeError(
        f"there is no recipe '{source}': give the path of a YAML file, or one of {nearest(str(source), known)}"
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """The plain values of a YAML file, as they stand there.

    Raises:
        RecipeError: it cannot be read, or is no YAML mapping.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        reason = " ".join(str(problem).replace('in "<unicode string>", ', "in ").split())
        raise RecipeError(f"{path}: not readable as YAML: {reason}") from None
    except OSError as problem:
        raise RecipeError(f"{path}: {problem.strerror}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected a mapping of keys such as task, data, model, train")
    return values


def _parse(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {text!r}: expected KEY=VALUE, such as train.epochs=1")
    try:
        return key.strip(), read_yaml(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {text!r}: {value!r} is not readable as a YAML value") from None


def _lay_profile(values: dict[str, Any], changes: Sequence[tuple[str, Any]], path: Path) -> None:
    chosen = dict(changes).get("profile", values.get("profile"))
    if chosen is None:
        return
    profiles = values.get("profiles")
    if not isinstance(profiles, dict):
        profiles = {}
    for name in str(chosen).split("+"):
        if name not in profiles:
            raise RecipeError(f"{path}: unknown profile '{name}'; the nearest are {nearest(name, profiles)}")
        if not isinstance(profiles[name], dict):
            raise RecipeError(f"{path}: the profile '{name}' is {profiles[name]!r}; expected a mapping of changes")
        for key, value in profiles[name].items():
            _set(values, str(key), value)
    values["profile"] = str(chosen)


def _set(at: Any, key: str, value: Any, done: tuple[str, ...] = ()) -> None:
    """Set a dotted key in nested mappings and lists, in place. `done`: the parts that led to `at`.

    A part that goes into a list is an entry's name or number, and `null` for an entry removes it. A mapping changes
    the keys that it names and leaves the others alone; an empty one replaces what stands there.
    """
    head, _, rest = key.partition(".")
    whole = ".".join((*done, key))
    if isinstance(at, list):
        slot: Any = _index(at, head, whole)
        inner = at[slot]
    elif isinstance(at, dict):
        slot, inner = head, at.get(head)
    else:
        raise RecipeError(f"'{whole}': '{'.'.join(done)}' is {at!r}, so it has no key '{head}'")
    if rest:
        if inner is None:
            inner = at[slot] = {}
        _set(inner, rest, value, (*done, head))
    elif isinstance(value, dict) and value and inner and isinstance(inner, (dict, list)):
        for name, change in value.items():
            _set(inner, str(name), change, (*done, head))
    elif isinstance(at, list) and value is None:
        del at[slot]
    else:
        at[slot] = value


def _index(items: list[Any], part: str, key: str) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(items):
        return int(part)
    known = [n for n in names if n is not None]
    raise RecipeError(f"'{key}': the list has no entry '{part}'; the nearest are {nearest(part, known)}")

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
from bnnapps.validation import deep_set, validated


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a file (or of a shipped recipe's name), with its profile and the overrides laid over it.

    Args:
        source: a path, or the name of a shipped recipe such as `bibert_glue`.
        overrides: `key=value` with dotted keys; values are YAML. `profile=NAME` picks a profile first.

    Raises:
        RecipeError: the file is missing or no YAML mapping, or something in it does not fit.
    """
    path = find_recipe(source)
    values = _read(path)
    changes = [_parse(text) for text in overrides]
    _lay_profile(values, changes, path)
    for key, value in changes:
        if key != "profile":
            _set(values, key, value)
    return as_recipe(values, str(path))


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


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        reason = " ".join(str(problem).split())
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
    profiles = values.get("profiles") or {}
    for name in str(chosen).split("+"):
        if name not in profiles:
            raise RecipeError(f"{path}: unknown profile '{name}'; the nearest are {nearest(name, profiles)}")
        for key, value in profiles[name].items():
            _set(values, str(key), value)
    values["profile"] = str(chosen)


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; a part that is a number, or the name of a stage, goes into a list."""
    parts = key.split(".")
    at: Any = values
    for i, part in enumerate(parts):
        if isinstance(at, list):
            index = _index(at, part, key)
            if i == len(parts) - 1:
                at[index] = value
                return
            at = at[index]
        elif isinstance(at, dict) and isinstance(at.get(part), list) and i < len(parts) - 1:
            at = at[part]
        else:
            if not isinstance(at, dict):
                raise RecipeError(f"'{key}': '{'.'.join(parts[:i])}' is {at!r}, so it has no key '{part}'")
            if i == len(parts) - 1 or not isinstance(at.get(part), dict):
                deep_set(at, parts[i:], value)
                return
            at = at[part]


def _index(items: list[Any], part: str, key: str) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(items):
        return int(part)
    known = [n for n in names if n is not None]
    raise RecipeError(f"'{key}': the list has no entry '{part}'; the nearest are {nearest(part, known)}")

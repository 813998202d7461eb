"""Config files of mmdet, read without running what they say.

A config in Python is parsed, and of its code only what gives plain data is evaluated here: literals, `dict(...)`, names
given before, `_base_` with its chain, arithmetic, f-strings, comprehensions over `range` and the like. Imports,
functions and calls of anything else are refused, with the line: mmengine would run them. YAML goes through the safe
loader, which mmengine's does not.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bnnapps.errors import MissingExtraError, RecipeError, nearest
from bnnapps.plugins.detection.mmdet_python import NotPlainError, values_of

_SUFFIXES = (".py", ".yaml", ".yml", ".json")
_DEEPEST = 20
_LARGEST = 1 << 20
"""Bytes of a config file; the largest of the zoo has 20,000."""


def zoo() -> Path:
    """The folder of configs that comes with mmdet.

    Raises:
        MissingExtraError: mmdet is not installed.

    """
    spec = importlib.util.find_spec("mmdet")
    if spec is None or spec.origin is None:
        raise MissingExtraError("mmdet", "mmdet", "model.mmdet")
    return Path(spec.origin).parent / ".mim" / "configs"


def find_config(source: str, where: str = "model.mmdet") -> Path:
    """The config file: a path, or a name of the zoo such as `ssd300_coco` or `ssd/ssd300_coco.py`.

    Raises:
        RecipeError: there is none, or several of that name in the zoo.
        MissingExtraError: mmdet is not installed.

    """
    if Path(source).is_file():
        return Path(source)
    folder = zoo()
    name = source.removeprefix("mmdet::")
    known = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.py"))}
    exact = [key for key in known if key in (name, f"{name}.py")]
    found = exact if exact else [key for key in known if Path(key).stem == Path(name).stem and "/" not in name]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise RecipeError(
            f"{where}: '{source}' names several configs of mmdet: {', '.join(found)}: give one with folder"
        )
    stems = [Path(key).stem for key in known]
    raise RecipeError(
        f"{where}: '{source}' is neither a file nor a config of mmdet's zoo; the nearest there are "
        f"{nearest(Path(name).stem, stems)}"
    )


def read_config(path: Path, where: str = "model.mmdet") -> dict[str, Any]:
    """What a config file and its chain of `_base_` files say, as plain data. Runs none of their code.

    A mapping is laid over the mapping of the same name in the base; with `_delete_: true` it takes its place.

    Raises:
        RecipeError: a file cannot be read, says more than plain data, or its bases form a circle.

    """
    return _read(path, where, ())


def _read(path: Path, where: str, chain: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in chain or len(chain) > _DEEPEST:
        raise RecipeError(f"{where}: {path} is its own base, or has more than {_DEEPEST} files below it")
    text = _text(path, where)
    if path.suffix != ".py":
        own = _plain_file(path, text, where)
        return _merged(own, _bases(own.pop("_base_", []), path, where, (*chain, path)), path, where)
    try:
        tree = ast.parse(_as_expressions(text, path, where), str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        raise RecipeError(f"{where}: {path} is no Python that can be read: {problem}") from None
    bases = _bases(_named_bases(tree, path, where), path, where, (*chain, path))
    try:
        own, bases = values_of(tree, bases)
    except NotPlainError as problem:
        raise RecipeError(
            f"{where}: {path}, line {problem.line}: {problem} is more than plain data, and configs are read without "
            "running them: if you trust the file, set model.options.run_code to true"
        ) from None
    return _merged(own, bases, path, where)


def _text(path: Path, where: str) -> str:
    if path.suffix not in _SUFFIXES:
        raise RecipeError(f"{where}: {path} is no config: it must end in {', '.join(_SUFFIXES)}")
    try:
        if path.stat().st_size > _LARGEST:
            raise RecipeError(f"{where}: {path} has more than {_LARGEST} bytes, which no config needs")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise RecipeError(f"{where}: {path} cannot be read: {problem}") from None


def _plain_file(path: Path, text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as problem:
        raise RecipeError(f"{where}: {path} cannot be read: {' '.join(str(problem).split())}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise RecipeError(f"{where}: {path} holds no mapping from names to values")
    return found


def _as_expressions(text: str, path: Path, where: str) -> str:
    """`{{_base_.model}}`, mmengine's way to write a value of the base, as Python."""
    known = {
        "fileDirname": str(path.parent),
        "fileBasename": path.name,
        "fileBasenameNoExtension": path.stem,
        "fileExtname": path.suffix,
    }

    def replaced(match: re.Match[str]) -> str:
        name = match.group(2)
        if name in known:
            return repr(known[name]) if not match.group(1) else match.group(1) + known[name]
        if not re.fullmatch(r"_base_(\.\w+)+", name):
            raise RecipeError(
                f"{where}: {path}: '{{{{{name}}}}}' is not known: only _base_ and the file's own name are"
            )
        return name

    text = re.sub(r"""(['"])\{\{\s*(_base_[^{}]*?)\s*\}\}\1""", lambda m: m.group(2), text)
    return re.sub(r"()\{\{\s*([\w.$:]+?)\s*\}\}", replaced, text)


def _named_bases(tree: ast.Module, path: Path, where: str) -> Any:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and [ast.unparse(t) for t in statement.targets] == ["_base_"]:
            try:
                return ast.literal_eval(statement.value)
            except ValueError:
                raise RecipeError(f"{where}: {path}: _base_ must be a path or a list of paths") from None
    return []


def _bases(named: Any, path: Path, where: str, chain: tuple[Path, ...]) -> dict[str, Any]:
    """All bases in one mapping."""
    listed = [named] if isinstance(named, str) else named
    if not isinstance(listed, (list, tuple)) or not all(isinstance(name, str) for name in listed):
        raise RecipeError(f"{where}: {path}: _base_ must be a path or a list of paths, not {named!r}")
    together: dict[str, Any] = {}
    for name in listed:
        inside = "::" in name
        package, _, rest = name.partition("::")
        if inside and package != "mmdet":
            raise RecipeError(
                f"{where}: {path}: the base '{name}' belongs to the package '{package}', and only mmdet's"
            )
        base = find_config(rest, where) if inside else path.parent / name
        values = _read(base, where, chain)
        twice = sorted(values.keys() & together.keys())
        if twice:
            raise RecipeError(f"{where}: {path}: two of its bases give '{twice[0]}'")
        together |= values
    return together


def _merged(own: Mapping[str, Any], base: Mapping[str, Any], path: Path, where: str) -> dict[str, Any]:
    """`own` laid over `base`."""
    result = dict(base)
    for key, value in own.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and not value.get("_delete_", False):
            result[key] = _merged(value, below, path, where)
        else:
            result[key] = _without_marks(value)
    return result


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_marks(v) for k, v in value.items() if k != "_delete_"}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_marks(v) for v in value)
    return value

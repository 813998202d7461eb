"""Where architectures are found by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from bnnapps.errors import UsageError, nearest


@dataclass(frozen=True)
class ModelEntry:
    """An architecture, with its source.

    Attributes:
        name: how recipes and `build` call it.
        title: one line.
        reference: authors, title, venue, year.
        make: `make(num_classes, in_channels, **options)` gives the float model.
        input_size: rows and columns of the images that it was published for.
        num_classes: of the data that it was published for.
        method: what `bnnapps.binarize` takes to make it as it was published (a method, or rules with what stays real);
            `None`: it was published as a float model, for any method.

    """

    name: str
    title: str
    reference: str
    make: Callable[..., nn.Module]
    input_size: tuple[int, int]
    num_classes: int
    method: str | Mapping[str, Any] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """The names of what can be chosen beyond classes and channels."""
        names = inspect.signature(self.make).parameters
        return tuple(n for n in names if n not in ("num_classes", "in_channels"))


_MODELS: dict[str, ModelEntry] = {}


def register_model(entry: ModelEntry) -> ModelEntry:
    """Make an architecture known by its name.

    Raises:
        ValueError: the name is taken.

    """
    if entry.name in _MODELS:
        raise ValueError(f"a model named '{entry.name}' is registered already")
    _MODELS[entry.name] = entry
    return entry


def models() -> list[ModelEntry]:
    """All architectures, by name."""
    return [_MODELS[name] for name in sorted(_MODELS)]


def get_model(name: str, where: str = "model") -> ModelEntry:
    """The architecture of that name.

    Raises:
        UsageError: there is none; the nearest names are given.

    """
    if name not in _MODELS:
        raise UsageError(f"{where}: unknown model '{name}'; the nearest are {nearest(name, _MODELS)}")
    return _MODELS[name]


def build(name: str, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """A new float model with random weights.

    Args:
        name: as `bnnapps list models` lists it.
        num_classes: outputs.
        in_channels: of the images.
        options: the entry's own.

    Raises:
        UsageError: an unknown name or option (the nearest are given), or a value that does not fit.

    """
    entry = get_model(name)
    for option in options:
        if option not in entry.options:
            known = nearest(option, entry.options) if entry.options else "(it has none)"
            raise UsageError(f"model '{name}': unknown option '{option}'; the nearest are {known}")
    for argument, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"model '{name}': {argument} is {value!r}; expected a whole number of at least 1")
    return entry.make(num_classes=num_classes, in_channels=in_channels, **options)


def one_of(value: Any, choices: tuple[str, ...], what: str) -> None:
    """Check an option.

    Raises:
        UsageError: the value is none of the choices.

    """
    if value not in choices:
        raise UsageError(f"{what} is {value!r}; expected one of {', '.join(choices)}")

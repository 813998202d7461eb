"""What a published method is, and where methods are found by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import nn

from bnnapps.errors import BinarizeError, nearest
from bnnapps.nn.spec import Spec

if TYPE_CHECKING:
    from bnnapps.binarize.rules import Rule

Slot = Literal["linear", "conv", "embedding", "attention", "nonlinearity", "block", "matmul", "aggregation", "lookup"]
"""The kinds of layer that a method may describe."""


@dataclass(frozen=True)
class Method:
    """A composition of shared parts, with its source.

    Attributes:
        name: how rules and recipes call it.
        title: one line.
        reference: authors, title, venue, year.
        layers: the record of parts for each kind of layer that the method covers.
        rules: the rules that `binarize(model, name)` applies, for the given model, in order.
        keep_first, keep_last: the counts that go with them.
        training: the losses and the schedule that were published with it, in words.

    """

    name: str
    title: str
    reference: str
    layers: Mapping[Slot, Spec]
    rules: Callable[[nn.Module], list[Rule]]
    keep_first: int = 1
    keep_last: int = 1
    training: str = ""
    tasks: tuple[str, ...] = field(default=("any",))


_METHODS: dict[str, Method] = {}


def register_method(method: Method) -> Method:
    """Make a method known by its name.

    Raises:
        ValueError: the name is taken.

    """
    if method.name in _METHODS:
        raise ValueError(f"a method named '{method.name}' is registered already")
    _METHODS[method.name] = method
    return method


def get_method(name: str, where: str = "method") -> Method:
    """The method of that name.

    Raises:
        BinarizeError: there is none; the nearest names are given.

    """
    if name not in _METHODS:
        raise BinarizeError(f"{where}: unknown method '{name}'; the nearest are {nearest(name, _METHODS)}")
    return _METHODS[name]


def methods() -> list[Method]:
    """All methods, by name."""
    return [_METHODS[name] for name in sorted(_METHODS)]

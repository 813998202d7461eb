"""What a network can be checked against before it is trained."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from bnnapps.errors import UsageError, nearest
from bnnapps.export.graph.packable import PackableRow, packable

TARGETS: dict[str, Callable[[nn.Module], list[PackableRow]]] = {"packed": packable}
"""By name: which layers of a model take the path that the target is made for."""


def get_target(name: str) -> Callable[[nn.Module], list[PackableRow]]:
    """The check of a target.

    Raises:
        UsageError: there is none of that name.

    """
    if name not in TARGETS:
        raise UsageError(f"there is no target '{name}'; the nearest are {nearest(name, TARGETS)}")
    return TARGETS[name]

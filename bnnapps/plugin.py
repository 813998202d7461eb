"""Tasks are plugins, found through the entry-point group `bnnapps.plugins`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from bnnapps.errors import RecipeError, UsageError, nearest
from bnnapps.recipe.schema import Recipe

if TYPE_CHECKING:
    from bnnapps.training.task import Task

GROUP = "bnnapps.plugins"


@dataclass(frozen=True)
class Plugin:
    """A task that recipes can name.

    Attributes:
        name: as in `task: NAME`.
        title: one line for `bnnapps list tasks`.
        recipe: the recipe class, with the task's own `data` and `model`.
        task: the class that runs it (given as a function, so that listing loads nothing heavy).
    """

    name: str
    title: str
    recipe: type[Recipe]
    task: type[Task]


def plugin_names() -> dict[str, EntryPoint]:
    """The installed tasks by name, not loaded."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def get_plugin(name: str, where: str = "task") -> Plugin:
    """The task of that name.

    Raises:
        RecipeError: there is none; the nearest names are given.
        UsageError: the entry point does not hold a plugin.
    """
    points = plugin_names()
    if name not in points:
        raise RecipeError(f"{where}: unknown task '{name}'; the nearest are {nearest(name, points)}")
    plugin = points[name].load()
    if not isinstance(plugin, Plugin):
        raise UsageError(f"the entry point '{name}' of {GROUP} is a {type(plugin).__name__}, not a Plugin")
    return plugin

"""What `bnnapps list` lists."""

from __future__ import annotations

from collections.abc import Callable

from bnnapps.binarize import layer_types
from bnnapps.errors import MissingExtraError
from bnnapps.methods import methods
from bnnapps.plugin import get_plugin, plugin_names

Row = dict[str, str]


def tasks() -> list[Row]:
    """The installed tasks; one whose extra is missing says so."""
    found = []
    for name in plugin_names():
        try:
            title = get_plugin(name).title
        except (MissingExtraError, ImportError) as problem:
            title = f"not usable here: {problem}"
        found.append({"task": name, "what": title})
    return found


def all_methods() -> list[Row]:
    """The methods."""
    return [
        {"method": m.name, "what": m.title, "covers": ", ".join(m.layers), "reference": m.reference} for m in methods()
    ]


def recipes() -> list[Row]:
    """The shipped recipes, with the first line of each."""
    from bnnapps.recipe.load import shipped_recipes

    found = []
    for name, path in shipped_recipes().items():
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        found.append({"recipe": name, "what": first})
    return found


def layers() -> list[Row]:
    """The layer types that have a binary twin."""
    return [{"type": t.key, "what": t.describes, "part of a method": t.slot} for t in layer_types().values()]


def all_losses() -> list[Row]:
    """The losses."""
    from bnnapps.losses import losses

    tasks()  # a plugin makes the losses of its task known when it is loaded
    return [
        {"loss": loss.name, "what": loss.describes, "needs a teacher": "yes" if loss.needs_teacher else ""}
        for loss in losses()
    ]


def all_models() -> list[Row]:
    """The architectures."""
    from bnnapps.models import models

    return [
        {
            "model": m.name,
            "what": m.title,
            "published for": f"{m.input_size[0]}x{m.input_size[1]}, {m.num_classes} classes",
            "method": "any" if m.method is None else m.method if isinstance(m.method, str) else "rules of its own",
            "options": ", ".join(m.options),
            "reference": m.reference,
        }
        for m in models()
    ]


LISTS: dict[str, Callable[[], list[Row]]] = {
    "tasks": tasks,
    "methods": all_methods,
    "models": all_models,
    "recipes": recipes,
    "layers": layers,
    "losses": all_losses,
}

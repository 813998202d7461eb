"""How the commands print."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnnapps.binarize.table import plan_table
from bnnapps.recipe.schema import Recipe
from bnnapps.text import terminal

if TYPE_CHECKING:
    from bnnapps.training.runner import Preview


def rows(items: Sequence[dict[str, str]], as_json: bool) -> None:
    """A table with a column for each key, or JSON."""
    if as_json:
        print(json.dumps(list(items), ensure_ascii=False))
        return
    table = Table(pad_edge=False, box=None, header_style="bold")
    for key in items[0] if items else []:
        table.add_column(key, overflow="fold")
    for item in items:
        table.add_row(*(Text(v) for v in item.values()))
    terminal().print(table)


def plans(found: Preview, as_json: bool) -> None:
    """The plan of every stage."""
    if as_json:
        print(json.dumps({s.name: None if p is None else p.to_dict() for s, p in found.stages}, ensure_ascii=False))
        return
    console = terminal()
    for number, (stage, the_plan) in enumerate(found.stages, 1):
        console.print(f"\n[bold]Stage {number}/{len(found.stages)}: {stage.name}[/bold]", highlight=False)
        console.print("float network, nothing becomes binary" if the_plan is None else plan_table(the_plan))


def targets(found: Preview, target: str, layers: Sequence[Any], as_json: bool) -> None:
    """The plans, and which layers of the last stage's network take the path of a target.

    Args:
        found: the plans.
        target: its name.
        layers: objects with `layer`, `takes_bits` and `reason`.
        as_json: print JSON.

    """
    stage = found.stages[-1][0].name
    if as_json:
        stages = {s.name: None if p is None else p.to_dict() for s, p in found.stages}
        rows = [{"layer": r.layer, "takes_bits": r.takes_bits, "reason": r.reason} for r in layers]
        data = {"stages": stages, "target": {"name": target, "stage": stage, "layers": rows}}
        print(json.dumps(data, ensure_ascii=False))
        return
    plans(found, as_json=False)
    console = terminal()
    console.print(f"\n[bold]Target '{target}': {stage}[/bold]", highlight=False)
    if not layers:
        print("float network, nothing would run on bits")
        return
    left = [r for r in layers if not r.takes_bits]
    print(f"{len(layers) - len(left)} of {len(layers)} layers and products would run on bits")
    if left:
        table = Table(pad_edge=False, box=None, header_style="bold")
        for column in ("stays as it is", "why"):
            table.add_column(column, overflow="fold")
        for r in left:
            table.add_row(Text(r.layer), Text(r.reason))
        console.print(table)


def preview(found: Preview, recipe: Recipe, as_json: bool) -> None:
    """What a run would do."""
    if as_json:
        stages = [
            {"stage": s.model_dump(mode="json"), "plan": None if p is None else p.to_dict()} for s, p in found.stages
        ]
        print(json.dumps({"data": found.data, "recipe": recipe.model_dump(mode="json"), "stages": stages}))
        return
    from bnnapps.training.runner import in_words
    from bnnapps.training.teachers import in_words as teacher_in_words

    console = terminal()
    console.print(f"Data: {in_words(found.data)}", highlight=False)
    table = Table(pad_edge=False, box=None, header_style="bold")
    for column in ("stage", "network", "start", "teacher", "length", "lr", "losses"):
        table.add_column(column)
    for stage, the_plan in found.stages:
        network = "float" if the_plan is None else f"{len(the_plan.binarized)} binary layers"
        if stage.width is not None:
            network += f", width {stage.width:g}"
        length = f"{stage.epochs} epochs" if stage.epochs is not None else f"{stage.steps} steps"
        losses = " + ".join(c.name if c.weight == 1 else f"{c.weight:g} {c.name}" for c in stage.losses)
        start = "as configured" if stage.init is None else stage.init
        teacher = "none" if stage.teacher is None else teacher_in_words(stage.teacher)
        table.add_row(stage.name, network, start, teacher, length, f"{stage.lr:g}", losses)
    console.print(table)
    plans(found, as_json=False)
    console.print("\nDry run: nothing was trained or written.")


def result(found: dict[str, Any], folder: Path, console: Console) -> None:
    """The stages' metrics, and where everything lies."""
    table = Table(title=f"{found['data'].get('data', '')}", title_justify="left", pad_edge=False)
    for column in ("stage", "metric", "chosen", "last epoch", "steps", "time"):
        table.add_column(column, justify="left" if column in ("stage", "metric") else "right")
    for stage in found["stages"]:
        for i, (name, value) in enumerate(stage["metrics"].items()):
            last = stage["last"].get(name)
            cells = [f"{value:.4f}", "" if last is None else f"{last:.4f}"]
            tail = [str(stage["steps"]), f"{stage['seconds']:.0f} s"] if i == 0 else ["", ""]
            table.add_row(stage["stage"] if i == 0 else "", name, *cells, *tail)
    console.print(table)
    console.print(f"Report: {folder / 'report.html'}", highlight=False)


def exported(files: Sequence[Mapping[str, Any]], root: Path) -> None:
    """Where the files are, and how they compare with torch; of several, in a line each."""
    console = terminal()
    for found in files:
        about = f", {found['about']}" if "about" in found else ""
        verdict = f", parity {found['parity']['verdict']}" if len(files) > 1 else ""
        line = f"{root / found['path']}: {found['bytes']:,} bytes{about}{verdict}"
        console.print(line, highlight=False, soft_wrap=True)
        if "dev" in found:
            pairs = zip(found["dev"]["model"].items(), found["dev"]["file"].values(), strict=True)
            costs = ", ".join(f"{name} {before:.4f} -> {after:.4f}" for (name, before), after in pairs)
            console.print(f"dev set, before and after 8 bits for the real layers: {costs}", highlight=False)
        if len(files) == 1:
            console.print_json(json.dumps(found["parity"]))
    for found in files:
        if "header" in found:
            print(f"{root / found['header']}: the layers on bits for bnn.h")

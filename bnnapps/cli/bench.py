"""`bnnapps bench`: what a layer, or an exported file, costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bnnapps.errors import UsageError, nearest
from bnnapps.text import terminal

if TYPE_CHECKING:
    from bnnapps.bench import Figures

app = typer.Typer(no_args_is_help=True, help="Measure time and memory.")


@app.callback()
def bench() -> None:
    """Measure time and memory."""


@app.command()
def train(
    methods: Annotated[str, typer.Option("--methods", help="Names with commas between them, or 'all'.")] = "all",
    layers: Annotated[
        str, typer.Option("--layers", help="Layer types with commas between them, or 'all'.")
    ] = "linear,conv2d",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Repetitions of each.")] = 10,
    size: Annotated[str, typer.Option("--size", help="small or large.")] = "small",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Measure a training step, forward and backward pass, of binary layers against float ones."""
    import torch

    from bnnapps.bench import Figures, Skipped, bench_training, choose, device_of, sizes
    from bnnapps.binarize import layer_types
    from bnnapps.methods import methods as all_methods

    chosen_methods = choose(methods, [m.name for m in all_methods()], "--methods")
    chosen_layers = choose(layers, list(layer_types()), "--layers")
    if size not in sizes():
        raise UsageError(f"--size: unknown size '{size}'; the nearest are {nearest(size, sizes())}")
    where = device_of(device)
    figures: list[Figures] = []
    skipped: list[Skipped] = []
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    quiet = as_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=len(chosen_methods) * len(chosen_layers))

        def begin(method: str, layer: str) -> None:
            progress.update(task, description=f"{layer}, {method}")

        for found in bench_training(chosen_methods, chosen_layers, where, steps, size, begin):
            progress.advance(task)
            if isinstance(found, Figures):
                figures.append(found)
            else:
                skipped.append(found)
    setting = {"device": where.type, "size": size, "steps": steps, "threads": torch.get_num_threads()}
    if as_json:
        rows = {"figures": [f.to_dict() for f in figures], "skipped": [s.to_dict() for s in skipped]}
        print(json.dumps({**setting, "torch": torch.__version__, **rows}))
        return
    title = f"Training step, {where.type}, {size}, median of {steps}"
    terminal().print(_table(figures, title if where.type == "cuda" else f"{title}, {setting['threads']} threads"))
    for item in skipped:
        print(f"skipped: {item.layer} with {item.method}: {item.reason}")


def _table(figures: list[Figures], title: str) -> Table:
    table = Table(title=title, title_justify="left", pad_edge=False)
    for column in ("layer", "method"):
        table.add_column(column)
    for column in ("float ms", "binary ms", "ratio", "float kept kB", "binary kept kB", "ratio"):
        table.add_column(column, justify="right")
    for f in figures:
        times = [f"{1e3 * f.seconds[name]:.2f}" for name in ("float", "binary")]
        kept = [f"{f.kept_bytes[name] / 1e3:.1f}" for name in ("float", "binary")]
        kept_ratio = "" if f.kept_ratio is None else f"{f.kept_ratio:.3f}"
        table.add_row(f.layer, f.method, *times, f"{f.time_ratio:.2f}", *kept, kept_ratio)
    return table

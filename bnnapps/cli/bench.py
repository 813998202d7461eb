"""`bnnapps bench`: what a layer, or an exported file, costs."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer.core import TyperGroup

from bnnapps.errors import UsageError, nearest
from bnnapps.text import terminal

if TYPE_CHECKING:
    from bnnapps.bench import Figures

_HELP = ("-h", "--help")


class FileOrCommand(TyperGroup):
    """What is no command of this group is a file, or options in front of one: `bench MODEL.onnx`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the command for files in front."""
        if args and args[0] not in self.commands and args[0] not in _HELP:
            args = ["file", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(no_args_is_help=True, cls=FileOrCommand)


@app.callback()
def bench() -> None:
    """Measure time and memory: of an exported file (`bnnapps bench MODEL.onnx`), or of a training step."""


@app.command()
def file(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A packed, portable or any other ONNX file.")],
    threads: Annotated[str, typer.Option("--threads", help="Numbers of threads, such as 1,2.")] = "1",
    batch: Annotated[str | None, typer.Option("--batch", help="Batch sizes, such as 1,8; by default 1.")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="NAME=VALUE", help="Another free size, by default 128. Repeatable."),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Calls of each file for each pair.")] = 30,
    float_file: Annotated[
        Path | None, typer.Option("--float", metavar="FILE", help="The float twin, where no run folder makes it.")
    ] = None,
    twins: Annotated[bool, typer.Option("--twins/--no-twins", help="Measure portable, float and int8 twins.")] = True,
    profile: Annotated[bool, typer.Option("--profile", help="Also show the time of every node.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Measure an exported file against its twins: `bnnapps bench MODEL.onnx`.

    Latency, memory, and where the time goes. A file of a run folder is measured against the run's portable export and
    against the same network with real layers, in float32 and in 8 bits; the result goes into the run's report.
    """
    from bnnapps.cli import latency

    counts = _numbers(threads, "--threads")
    batches = None if batch is None else _numbers(batch, "--batch")
    sizes = dict(_pair(text) for text in size or [])
    importlib.import_module("bnnapps.export").require_packages()
    console = Console(stderr=True)
    quiet = as_json or not console.is_terminal
    with Progress(
        TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True, disable=quiet
    ) as bar:
        task = bar.add_task("")
        found = latency.measured(
            model,
            counts,
            batches,
            sizes,
            runs,
            float_file,
            twins,
            lambda what: bar.update(task, description=what),
        )
    print(json.dumps(found)) if as_json else latency.show(found, profile)


def _numbers(text: str, option: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"{option} is '{text}': give numbers from 1 on with commas between them, such as 1,2")
    return list(dict.fromkeys(int(part) for part in parts))


def _pair(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    if not (name and equals and value.isdecimal() and int(value) > 0):
        raise UsageError(f"--size '{text}': expected NAME=VALUE with a number from 1 on")
    return name, int(value)


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

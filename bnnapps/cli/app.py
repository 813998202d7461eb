"""The commands, thin: each reads its arguments, calls the package, and prints."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from bnnapps.cli import bench, fpga, inspection, listing, runtime, show
from bnnapps.cli import listen as listening
from bnnapps.cli.log import logged
from bnnapps.errors import BnnappsError, UsageError, nearest

app = typer.Typer(
    name="bnnapps",
    help="Binarize any PyTorch model by rules, train it on its own task, deploy it as true bits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(bench.app, name="bench")
app.add_typer(runtime.app, name="runtime")
app.command("fpga")(fpga.fpga)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. train.epochs=1. Repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command()
def run(
    recipe: Annotated[str | None, typer.Argument(help="A recipe's path, or the name of a shipped one.")] = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run folder; by default runs/<recipe>.")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with the run in this folder.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the plan; train nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a recipe through all its stages, evaluate it, export it, and write a report."""
    from bnnapps.recipe.load import find_recipe, load_recipe
    from bnnapps.training.folder import RunFolder
    from bnnapps.training.ranks import is_first
    from bnnapps.training.runner import preview, read_run_recipe, run_recipe

    if resume is not None:
        if recipe is not None or overrides or out is not None:
            raise UsageError("--resume takes the recipe from the run folder: give no recipe, --set or --out beside it")
        chosen, folder = read_run_recipe(RunFolder(resume)), resume
    elif recipe is None:
        raise UsageError("give a recipe (see `bnnapps list recipes`), or --resume and a run folder")
    else:
        chosen = load_recipe(recipe, overrides or [])
        folder = Path("runs") / find_recipe(recipe).stem if out is None else out
    if dry_run:
        _, plans = preview(chosen)
        show.preview(plans, chosen, as_json)
        return
    first = is_first()  # of several processes, the one that speaks
    with logged(folder / "log.txt", quiet=as_json or not first, to_file=first) as console:
        try:
            result = run_recipe(chosen, folder, console, resume=resume is not None)
        except KeyboardInterrupt:
            begun = (folder / "recipe.yaml").is_file()
            how = (
                f"`bnnapps run --resume {folder}` goes on from the last checkpoint" if begun else "Nothing was written"
            )
            console.print(f"Interrupted. {how}.", highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
        if first and not as_json:
            show.result(result, folder, console)
    if first and as_json:
        print(json.dumps(result))


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="tasks, methods, recipes, layers or losses.")],
    as_json: AsJson = False,
) -> None:
    """List what recipes and rules can name."""
    if what not in listing.LISTS:
        raise UsageError(f"there is no list '{what}'; the nearest are {nearest(what, listing.LISTS)}")
    rows = listing.LISTS[what]()
    show.rows(rows, as_json)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe's path, or the name of a shipped one.")],
    overrides: Overrides = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="Also say which layers would run on bits in an exported file: packed."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show, stage by stage, which layers a recipe would make binary, and why. Trains nothing."""
    from bnnapps.recipe.load import load_recipe
    from bnnapps.training.runner import preview, target_rows

    if target is None:
        show.plans(preview(load_recipe(recipe, overrides or []))[1], as_json)
        return
    import bnnapps.export

    bnnapps.export.get_target(target)  # raises for an unknown one
    found, rows = target_rows(load_recipe(recipe, overrides or []), target)
    show.targets(found, target, rows, as_json)


@app.command()
def summary(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    as_json: AsJson = False,
) -> None:
    """Show operations and sizes of a run's model, layer by layer."""
    from bnnapps.profile import summarize
    from bnnapps.training.runner import open_run

    task, model, _ = open_run(run_folder)
    found = summarize(model, task.one_example())
    print(json.dumps(found.to_dict())) if as_json else print(found)


@app.command()
def schema(
    task: Annotated[str, typer.Argument(help="The task whose recipes to describe.")] = "text",
) -> None:
    """Print the JSON schema of a task's recipes, for editors."""
    from bnnapps.plugin import get_plugin

    print(json.dumps(get_plugin(task).recipe.model_json_schema(), indent=2))


@app.command()
def export(
    run_folder: Annotated[Path | None, typer.Argument(metavar="RUN", help="The folder of a finished run.")] = None,
    dialect: Annotated[str | None, typer.Option("--dialect", help="portable (the default), packed, or qonnx.")] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="finn or hls4ml: QONNX as that importer needs it.")
    ] = None,
    emit: Annotated[str | None, typer.Option("--emit", help="c: also write the layers on bits as a C header.")] = None,
    list_steps: Annotated[bool, typer.Option("--list-steps", help="List the dialect's steps; export nothing.")] = False,
    real_bits: Annotated[int, typer.Option("--real-bits", help="8: packed, with the real layers in 8 bits.")] = 32,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="export.KEY=VALUE", help="Change a key of the recipe's export. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export a run's model to ONNX, and check it against torch."""
    import bnnapps.export
    from bnnapps.training.runner import export_eight_bits, export_model, open_run, refresh_report

    if emit not in (None, "c"):
        raise UsageError(f"--emit takes 'c', not '{emit}'")
    dialect = dialect or ("packed" if emit else "qonnx" if target else "portable")
    if emit and dialect != "packed":
        raise UsageError(f"--emit {emit} needs the dialect 'packed', not '{dialect}'")
    if list_steps:
        show.rows([{"step": name, "does": does} for name, does in bnnapps.export.list_steps(dialect)], as_json)
        return
    if run_folder is None:
        raise UsageError("give the folder of a finished run, or --list-steps")
    bnnapps.export.list_steps(dialect)  # raises for an unknown one
    importlib.import_module("bnnapps.export.eight_bits").check_bits(real_bits, dialect)
    if target is not None:
        importlib.import_module("bnnapps.export.qonnx.target").check_target(target, dialect)
    task, model, folder = open_run(run_folder, overrides or [])
    folder.read_json("sections.json")  # raises where the run is not finished, before the work
    with logged(folder.root / "log.txt", quiet=as_json) as console:
        if real_bits == 8:
            found = export_eight_bits(task, model, folder, console)
        else:
            found = export_model(task, model, folder, dialect, console, target)
        refresh_report(folder)
    files = [_exported_file(one, folder.root, emit) for one in found]
    if as_json:
        further = {"further": files[1:]} if len(files) > 1 else {}
        print(json.dumps(files[0] | further))
    else:
        show.exported(files, folder.root)


def _exported_file(found: dict[str, Any], root: Path, emit: str | None) -> dict[str, Any]:
    """What is said of an exported file: also its parity, and the header that is written beside it."""
    import bnnapps.export

    path = root / found["path"]
    if emit is not None:
        header = bnnapps.export.emit_c(path, path.parent / "c")
        found = found | {"header": str(header.relative_to(root))}
    return found | {"parity": json.loads(path.with_suffix(".parity.json").read_text(encoding="utf-8"))}


@app.command()
def listen(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run of keywords.")],
    wav: Annotated[Path | None, typer.Option("--wav", metavar="FILE", help="The recording, of any rate.")] = None,
    compose: Annotated[
        float | None, typer.Option("--compose", metavar="SECONDS", help="Compose one of the run's own dev clips.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="FILE", help="What is said in it: START<tab>END<tab>WORD lines.")
    ] = None,
    hop: Annotated[float, typer.Option("--hop", help="Seconds between two windows.")] = 0.1,
    threshold: Annotated[float, typer.Option("--threshold", help="Smoothed probability of a word.")] = 0.7,
    smoothing: Annotated[float, typer.Option("--smoothing", help="Seconds to average over.")] = 0.5,
    refractory: Annotated[float, typer.Option("--refractory", help="Seconds after a word without another.")] = 1.0,
    quiet: Annotated[float, typer.Option("--quiet", help="dB of full scale; softer windows hold no word.")] = -60.0,
    layers: Annotated[
        int | None, typer.Option("--layers", help="Of a network that was trained at several depths.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of what --compose makes.")] = 0,
    noise: Annotated[
        float, typer.Option("--noise", help="dB of full scale of the white noise in what --compose makes; -inf: none.")
    ] = -50.0,
    out: Annotated[Path | None, typer.Option("--out", help="By default RUN/listen/NAME.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hear the words in a long recording: when, how surely, and how many are missed or made up."""
    from bnnapps.training.listening import Listening
    from bnnapps.training.runner import open_run

    settings = Listening(wav, compose, labels, seed, hop, threshold, smoothing, refractory, quiet, layers, noise)
    task, model, folder = open_run(run_folder)
    into = folder.root / "listen" / settings.name if out is None else out
    with logged(folder.root / "log.txt", quiet=as_json) as console:
        found = task.listen(model, settings, into, console)
    print(json.dumps(found | {"folder": str(into)}, ensure_ascii=False)) if as_json else listening.show(found, into)


@app.command("inspect")
def inspect_(
    file: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A packed, portable or any other ONNX file.")],
    every: Annotated[bool, typer.Option("--all", help="Show every node, also real ones without constants.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show which nodes of an ONNX file run on bits, and what its weights take."""
    import bnnapps.export

    bnnapps.export.require_packages()
    found = importlib.import_module("bnnapps.export.inspection").inspect_model(file)
    print(json.dumps(found.to_dict())) if as_json else inspection.show(found, every)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; what a user did wrong becomes one line and an exit code, 2 for usage and 1 for failure."""
    errors = Console(stderr=True)
    try:
        app(args=arguments)
    except BnnappsError as problem:
        errors.print(f"[bold red]error:[/bold red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        sys.exit(problem.exit_code)
    except BrokenPipeError:  # the reader of a pipe has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        errors.print(
            f"[bold red]error:[/bold red] {escape(f'{where}{problem.strerror}')}", highlight=False, soft_wrap=True
        )
        sys.exit(1)

"""`bnnapps fpga`: from a run or a packed file to a placed and routed design."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status

from bnnapps.cli import show
from bnnapps.cli.log import LoggedConsole
from bnnapps.errors import UsageError


def fpga(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN|MODEL.onnx",
            help="The folder of a finished run, a packed file, or a file of truth tables (.json).",
        ),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", help="ecp5-25k, ecp5-45k, ecp5-85k, xilinx7, ice40 or gowin.")
    ] = "ecp5-85k",
    fps: Annotated[float | None, typer.Option("--fps", help="Inferences a second; by default as many as fit.")] = None,
    mhz: Annotated[float, typer.Option("--mhz", help="The clock to plan with and to aim for.")] = 120.0,
    folding: Annotated[
        Path | None, typer.Option("--folding", metavar="FILE", help="PE and SIMD of each layer, instead of a rate.")
    ] = None,
    luts: Annotated[int | None, typer.Option("--luts", help="A budget; by default 85 % of the target.")] = None,
    brams: Annotated[int | None, typer.Option("--brams", help="A budget of block memories.")] = None,
    vectors: Annotated[
        int | None, typer.Option("--vectors", help="Inputs to simulate; by default the whole dev set of a run.")
    ] = None,
    sim: Annotated[
        list[str] | None, typer.Option("--sim", help="icarus, cxxrtl or verilator; repeatable. By default two.")
    ] = None,
    scores: Annotated[bool, typer.Option("--scores/--no-scores", help="Hand out all sums beside the class.")] = True,
    out: Annotated[Path | None, typer.Option("--out", help="By default RUN/fpga/TARGET, or MODEL-TARGET.")] = None,
    style: Annotated[
        str,
        typer.Option("--style", help="folded, or parallel: one inference a cycle. By default what the network has."),
    ] = "auto",
    levels: Annotated[int, typer.Option("--levels", help="Of logic between registers, in a parallel design.")] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Of stalls, random inputs and the placement.")] = 1,
    placer: Annotated[
        str | None, typer.Option("--placer", help="Of nextpnr: heap (its default), static or sa.")
    ] = None,
    router: Annotated[
        str | None, typer.Option("--router", help="Of nextpnr: router1 (its default), or router2 for full designs.")
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Do this step and later ones again.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="STEP", help="Stop behind this step.")] = None,
    list_steps: Annotated[bool, typer.Option("--list-steps", help="List the steps; do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Make a design of a network: Verilog, simulated bit for bit, synthesised, placed and routed, with a report."""
    flow: Any = importlib.import_module("bnnapps.export.fpga")
    if list_steps:
        show.rows([{"step": name, "does": does} for name, does in flow.list_steps()], as_json)
        return
    if model is None:
        raise UsageError("give the folder of a finished run or a packed file, or --list-steps")
    importlib.import_module("bnnapps.export").require_packages()
    effort = importlib.import_module("bnnapps.export.fpga.route").Effort(placer, router)
    simulators = None if not sim else tuple(sim)
    options = importlib.import_module("bnnapps.export.fpga.flow").Options(
        target, fps, mhz, folding, luts, brams, vectors, simulators, scores, seed, style, levels, effort
    )
    where = _folder(model, target, style) if out is None else out
    where.mkdir(parents=True, exist_ok=True)
    console = LoggedConsole(where / "log.txt", as_json, True)
    with Status("", console=Console(stderr=True)) as status:

        def progress(step: str, seconds: float) -> None:
            status.update(f"{step} {seconds:.0f} s")

        found = flow.build(model, where, options, console, None if as_json else progress, begin, end)
    if as_json:
        print(json.dumps(found))
    elif "totals" in found:
        importlib.import_module("bnnapps.export.fpga.report").show(found, console)
        console.print(f"Report: {where / 'report.html'}", highlight=False, soft_wrap=True)


def _folder(model: Path, target: str, style: str) -> Path:
    name = f"{target}-parallel" if style == "parallel" else target
    return model / "fpga" / name if model.is_dir() else model.with_name(f"{model.stem}-{name}")

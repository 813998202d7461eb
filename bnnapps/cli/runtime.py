"""`bnnapps runtime`: the 1-bit kernels on this machine."""

from __future__ import annotations

import importlib
import json
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="The 1-bit kernels that packed files run on.")


@app.callback()
def runtime() -> None:
    """The 1-bit kernels that packed files run on."""


@app.command()
def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False) -> None:
    """Say whether the kernels are installed, which instruction set they use, and whether ONNX Runtime takes them."""
    found = importlib.import_module("bnnapps.export.runtime.info").runtime_info()
    if as_json:
        print(json.dumps(found.to_dict()))
        return
    for name, value in _lines(found):
        print(f"{name:<18} {value}")
    if found.problem is not None:
        print(f"\n{found.problem}")


def _lines(found: Any) -> list[tuple[str, str]]:
    library = "not installed" if found.library is None else found.library
    lines = [("library", library)]
    if found.library is not None:
        interface = f"version {found.interface}" if found.loads else "cannot be used"
        lines.append(("C interface", interface))
    if found.loads:
        lines.append(("instruction sets", ", ".join(found.instruction_sets)))
        lines.append(("in use", str(found.in_use)))
    lines.append(("ONNX Runtime", "not installed" if found.onnxruntime is None else found.onnxruntime))
    lines.append(("operators", "registered, packed files run on the kernels" if found.operators else _without(found)))
    return lines


def _without(found: Any) -> str:
    if found.onnxruntime is None:
        return "none: nothing runs ONNX files here"
    return "none: packed files run on their function bodies, exactly and slowly"

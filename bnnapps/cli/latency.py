"""`bnnapps bench MODEL.onnx`: measuring a file of a run, and how the figures print."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from bnnapps.errors import BnnappsError
from bnnapps.report.numbers import times
from bnnapps.text import terminal
from bnnapps.training.folder import RunFolder, write_text

Titled = tuple[str, Table]


def measured(
    model: Path,
    threads: Sequence[int],
    batches: Sequence[int] | None,
    sizes: Mapping[str, int],
    runs: int,
    float_file: Path | None,
    with_twins: bool,
    begin: Callable[[str], None],
) -> dict[str, Any]:
    """Measure a file and its twins; in a run folder the result is written beside the file and into the report."""
    from bnnapps.training.runner import refresh_report
    from bnnapps.training.twins import form_of, run_of

    importlib.import_module("bnnapps.export.file").read_model(model)  # raises, before the work
    folder = run_of(model)
    notes: list[str] = []
    twins: dict[str, Path] = {} if float_file is None else {"float": float_file}
    if with_twins and folder is not None:
        twins = _twins(folder, model, notes, begin) | twins
    if float_file is not None:
        importlib.import_module("bnnapps.export.file").read_model(float_file)
    kept = folder is not None and float_file is None and "float" in twins
    int8 = folder.root / "bench" / f"int8{form_of(model)}.onnx" if folder is not None and kept else None
    bench = importlib.import_module("bnnapps.export.bench.run").bench
    found: dict[str, Any] = bench(model, threads, batches, sizes, runs, twins, int8, begin).to_dict()
    found["notes"] += notes
    if folder is not None:
        write_text(model.with_suffix(".bench.json"), json.dumps(found, indent=2) + "\n")
        if (folder.root / "sections.json").is_file():
            refresh_report(folder)
    return found


def _twins(folder: RunFolder, model: Path, notes: list[str], begin: Callable[[str], None]) -> dict[str, Path]:
    from bnnapps.training.twins import float_twin, form_of, portable_twin

    twins = {}
    portable = portable_twin(folder, model)
    if portable is not None:
        twins["portable"] = portable
    begin("exporting the float twin")
    try:
        twins["float"] = float_twin(folder, form_of(model))
    except BnnappsError as problem:
        notes.append(f"no twins 'float' and 'int8': {problem}")
    return twins


def show(found: Mapping[str, Any], every: bool) -> None:
    """The tables of a measurement: latencies, files, operators; `every`: also each node."""
    for name, value in _facts(found):
        print(f"{name:<8} {value}")
    console = terminal()
    for title, table in (_latencies(found), _files(found), _operators(found), *([_nodes(found)] if every else [])):
        print(f"\n{title}")
        console.print(table)
    for note in found["notes"]:
        print(f"note: {note}")


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    kernels = f"{found['kernels']} kernels" if found["kernels"] else "operators of ONNX Runtime alone"
    versions = found["versions"]
    facts = [
        ("file", f"{found['file']}, {kernels}"),
        ("machine", f"{found['cpu']}; ONNX Runtime {versions['onnxruntime']}, bnnapps {versions['bnnapps']}"),
    ]
    if found["sizes"]:
        facts.append(("sizes", ", ".join(f"{name} {value}" for name, value in found["sizes"].items())))
    return facts


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(pad_edge=False, box=None, header_style="bold")
    for column in left:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right")
    return table


def _latencies(found: Mapping[str, Any]) -> Titled:
    rows = found["latencies"]
    own = {(r["threads"], r["batch"]): r["median"] for r in rows if r["name"] == found["name"]}
    runs = rows[0]["runs"]
    title = f"Latency in ms, {runs} call{'s' if runs > 1 else ''} of each in turns"
    columns = ("threads", "batch", "median", "10 %", "90 %", f"÷ {found['name']}")
    table = _table(("network",), columns)
    for r in sorted(rows, key=lambda r: (r["threads"], r["batch"])):
        spread = (f"{r[key]:.3f}" for key in ("median", "p10", "p90"))
        ratio = "" if r["name"] == found["name"] else times(r["median"] / own[r["threads"], r["batch"]])
        table.add_row(r["name"], str(r["threads"]), str(r["batch"]), *spread, ratio)
    return title, table


def _files(found: Mapping[str, Any]) -> Titled:
    at = found["profiled"]
    title = f"Size, and what a session costs ({_at(at)})"
    table = _table(("network",), ("file MB", "peak memory MB", "start ms"))
    for f in found["files"]:
        memory = "not measured" if f["memory_bytes"] is None else f"{f['memory_bytes'] / 1e6:.1f}"
        start = "not measured" if f["start"] is None else f"{f['start']:.1f}"
        table.add_row(f["name"], f"{f['bytes'] / 1e6:.2f}", memory, start)
    return title, table


def _operators(found: Mapping[str, Any]) -> Titled:
    bound = found["bound_macs_per_second"]
    measured = f"; popcount bound {bound / 1e12:.2f} TMAC/s a thread" if bound else ""
    title = f"Time by operator ({_at(found['profiled'])}{measured})"
    table = _table(("operator",), ("nodes", "ms", "share", "binary MMAC", "of the bound"))
    for row in found["operators"]:
        table.add_row(row["operator"], str(row["nodes"]), *_work(row))
    return title, table


def _nodes(found: Mapping[str, Any]) -> Titled:
    right = ("ms", "share", "binary MMAC", "of the bound")
    table = _table(("node", "operator", "output"), right)
    for row in found["nodes"]:
        left = (row["name"], row["operator"], "×".join(str(size) for size in row["shape"]))
        table.add_row(*(Text(cell) for cell in left), *_work(row))
    return "Time by node", table


def _work(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    macs = f"{row['macs'] / 1e6:.1f}" if row["macs"] else ""
    fraction = "" if row["fraction"] is None else f"{row['fraction']:.2f}"
    return f"{row['ms']:.3f}", f"{100 * row['share']:.1f} %", macs, fraction


def _at(at: Mapping[str, int]) -> str:
    return f"{at['threads']} thread{'s' if at['threads'] > 1 else ''}, batch {at['batch']}"

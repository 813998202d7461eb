"""The report of a design: every number with what it is, as JSON, as a table and as a page with the dataflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bnnapps.export.fpga.devices import Device
from bnnapps.export.fpga.generate import Design
from bnnapps.export.fpga.layers import Conv, Layer, Network, Pool
from bnnapps.export.fpga.parallel.generate import PINS
from bnnapps.export.fpga.source import Source

if TYPE_CHECKING:
    from bnnapps.export.fpga.flow import Options
    from bnnapps.export.fpga.parallel.source import ParallelSource

SIMULATED, CELLS, ROUTED, ESTIMATE, PREDICTED = "simulated", "synthesised cells", "post-route", "estimate", "predicted"


def make_report(
    source: Source | ParallelSource,
    design: Design,
    device: Device,
    options: Options,
    found: dict[str, Any],
    tools: dict[str, str],
    rows: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Everything that the steps found.

    A number is `{"value", "kind"}`; kinds are simulated, synthesised cells, post-route, estimate and predicted.
    `rows` are those of a parallel design's parts; a folded one's are made here.
    """
    routed, simulated, cells = found.get("route"), found["simulate"], found["synthesize"]["total"]
    mhz = options.mhz if routed is None else routed["mhz"]
    clock = "an assumed clock: the open tools do not time this target" if routed is None else "the routed clock"
    bits = source.network.input.bits if isinstance(source, Source) else source.network.input_bits
    rate = ESTIMATE if routed is None else f"{SIMULATED} cycles at the post-route clock"
    totals: dict[str, Any] = {
        "cycles an inference": _number(simulated["interval"], SIMULATED),
        "cycles an inference, predicted": _number(found["fold"]["interval"], PREDICTED),
        "latency, cycles": _number(simulated["latency"], SIMULATED),
        "clock, MHz": _number(mhz, ESTIMATE if routed is None else ROUTED),
        "inferences a second": _number(mhz * 1e6 / simulated["interval"], rate),
        "latency, µs": _number(simulated["latency"] / mhz, rate),
        f"LUT{device.lut_inputs}": _number(cells["luts"], CELLS),
        "FF": _number(cells["ffs"], CELLS),
        "BRAM": _number(cells["brams"], CELLS),
        "LUT RAM cells": _number(cells["lut_rams"], CELLS),
        "DSP": _number(cells["dsps"], CELLS),
    }
    if routed is not None:
        for title, kind in (("TRELLIS_COMB", "TRELLIS_COMB"), ("TRELLIS_FF", "TRELLIS_FF"), ("DP16KD", "DP16KD")):
            used, most = routed["used"].get(kind, 0), routed["available"].get(kind, 0)
            totals[title] = _number(used, ROUTED) | {"of": most}
        totals["critical path"] = _number(routed["critical"], ROUTED)
    if found.get("bitstream") is not None:
        totals["bitstream, bytes"] = _number(found["bitstream"]["bytes"], "file")
    return {
        "network": source.network.name,
        "target": device.name,
        "device": device.title,
        "clock": clock,
        "accuracy": {
            name: _number(value, "torch, and the design is bit-exact") for name, value in source.metrics.items()
        },
        "agreement": found["read"],
        "totals": totals,
        "layers": _rows(source.network, found) if isinstance(source, Source) else rows,
        "simulations": simulated["runs"],
        "tools": tools,
        "used": _used(found),
        "placement": None if routed is None else {"seed": options.seed, "options": options.effort.arguments()},
        "input": {"bits a beat": design.beat_bits, "beats": design.beats, "codes of": bits},
        "loader": _loader(device, design) if rows is not None else None,
        "power": "not measured: no open tool estimates it",
    }


def _loader(device: Device, design: Design) -> str:
    """What a reader of a parallel design's figures has to know of its input."""
    if not device.route:
        return "The design takes a whole input at once, in every cycle."
    return (
        f"The design takes a whole input at once, in every cycle; no part has pins for that, so it is routed behind a "
        f"register that {-(-design.beat_bits // PINS)} beats of {PINS} bits fill, whose registers are not counted here."
    )


def _number(value: Any, kind: str) -> dict[str, Any]:
    return {"value": value, "kind": kind}


def _rows(network: Network, found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a layer: folding, predicted cycles, estimates and cells."""
    parts, folded = found["synthesize"]["parts"], found["fold"]
    rows = []
    for number, layer in enumerate(network.layers):
        row: dict[str, Any] = {"layer": layer.name, "what": _what(layer)}
        if not isinstance(layer, Pool):
            fold = folded["layers"][layer.name]
            row |= {"pe": fold["pe"], "simd": fold["simd"], "cycles": _number(fold["cycles"], PREDICTED)}
            row |= {
                "LUT, estimated": _number(fold["luts"], ESTIMATE),
                "BRAM, estimated": _number(fold["brams"], ESTIMATE),
            }
        rows.append(row | _cells(parts, f"layer{number}", f"wide{number}", f"narrow{number}"))
    head: dict[str, Any] = {"layer": "head", "what": f"largest of {network.head.classes} scores"}
    head |= {
        "cycles": _number(network.head.classes, PREDICTED),
        "LUT, estimated": _number(folded["head"]["luts"], ESTIMATE),
    }
    head |= {"BRAM, estimated": _number(folded["head"]["brams"], ESTIMATE)}
    last = len(network.layers)
    return [*rows, head | _cells(parts, "head", f"wide{last}", f"narrow{last}")]


def _cells(parts: dict[str, Any], *names: str) -> dict[str, Any]:
    """Cells of an instance and of what makes its beats wider or narrower."""
    chosen = [parts[name] for name in names if name in parts]
    keys = (("LUT", "luts"), ("FF", "ffs"), ("BRAM", "brams"), ("DSP", "dsps"))
    return {title: _number(sum(one[key] for one in chosen), CELLS) for title, key in keys}


def _what(layer: Layer) -> str:
    if isinstance(layer, Pool):
        return f"OR of {layer.window[0]}x{layer.window[1]} bits, {layer.channels} channels"
    if isinstance(layer, Conv):
        rows, columns = layer.out_size
        kernel = f"{layer.kernel[0]}x{layer.kernel[1]}"
        return f"{kernel} convolution, {layer.channels} to {layer.outputs} channels, {rows}x{columns} positions"
    return f"dense, {layer.terms} to {layer.outputs}"


def _used(found: dict[str, Any]) -> dict[str, Any]:
    """Seconds and memory of each tool."""
    used = {
        f"{run['simulator']}{', stalled' if run['stalls'] else ''}": [run["seconds"], run["megabytes"]]
        for run in found["simulate"]["runs"]
    }
    for step, tool in (("synthesize", "yosys"), ("route", "nextpnr")):
        if found.get(step) is not None:
            used[tool] = [found[step]["seconds"], found[step]["megabytes"]]
    return {name: {"seconds": round(s, 1), "megabytes": round(m)} for name, (s, m) in used.items()}


def write_report(found: dict[str, Any], folder: Path) -> None:
    """Write `report.json` and `report.html`."""
    from bnnapps.export.fpga.page import page

    (folder / "report.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page(found), encoding="utf-8")


def show(found: dict[str, Any], console: Console) -> None:
    """Both tables on a terminal."""
    console.print(f"\n{found['network']} on {found['device']}", highlight=False)
    table = Table(pad_edge=False, box=None, header_style="bold")
    columns = ("layer", "what", "PE", "SIMD", "cycles", "LUT est.", "LUT", "FF", "BRAM", "DSP")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 2 else "right", overflow="fold")
    for row in found["layers"]:
        cells = [row.get("pe", ""), row.get("simd", "")]
        cells += [text(row.get(key)) for key in ("cycles", "LUT, estimated", "LUT", "FF", "BRAM", "DSP")]
        table.add_row(row["layer"], row["what"], *map(str, cells))
    console.print(table)
    table = Table(pad_edge=False, box=None, header_style="bold")
    for column in ("in all", "", "kind of number"):
        table.add_column(column, overflow="fold")
    for name, number in (found["totals"] | found["accuracy"]).items():
        of = f" of {number['of']:,}" if number.get("of") else ""
        table.add_row(name, text(number) + of, number["kind"])
    console.print(table)
    console.print("cycles are predicted, LUT, FF, BRAM and DSP of layers are synthesised cells; power is not measured")


def text(number: dict[str, Any] | None) -> str:
    """A number of the report for people."""
    if number is None:
        return ""
    value = number["value"]
    if isinstance(value, str):
        return value
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"

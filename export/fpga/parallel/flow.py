"""The steps of the flow where they differ for parallel designs."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bnnapps.errors import ExportError
from bnnapps.export.fpga.devices import Device
from bnnapps.export.fpga.flow import Flow, version_key
from bnnapps.export.fpga.generate import library
from bnnapps.export.fpga.luts.file import to_json
from bnnapps.export.fpga.parallel.generate import LOADER, Parts, generate_parallel
from bnnapps.export.fpga.parallel.network import Comparators, Neurons, Tables
from bnnapps.export.fpga.parallel.source import ParallelSource, agreement, parallel_vectors
from bnnapps.export.fpga.simulate.run import available
from bnnapps.export.fpga.simulate.vectors import Vectors
from bnnapps.export.fpga.synthesis import NETLIST, Cells, Synthesized, summed
from bnnapps.export.fpga.tools.found import versions
from bnnapps.export.fpga.tools.process import Tick
from bnnapps.export.fpga.tools.yosys import run_yosys

_REFEREE_GATES = 40_000_000
_CXXRTL_GATES = 4_000


class ParallelFlow(Flow):
    """One inference a cycle; nothing is folded."""

    source: ParallelSource  # type: ignore[assignment]
    parts: Parts

    def _first_key(self) -> str:
        """Of the network, its test inputs and this version of the library."""
        digest = hashlib.sha256(version_key())
        network = self.source.network
        digest.update(repr((network.name, network.width, network.head.classes, self.options.levels)).encode())
        for one in (*network.stages, network.counts):
            for value in vars(one).values():
                digest.update(value.tobytes() if hasattr(value, "tobytes") else repr(value).encode())
        digest.update(b"" if network.head.ranks is None else network.head.ranks.tobytes())
        digest.update(self.source.inputs.tobytes())
        return digest.hexdigest()

    def _read(self) -> dict[str, Any]:
        source, agreed = self.source, agreement(self.source)
        network = source.network
        if source.tables:
            text = json.dumps(to_json(network)) + "\n"
            (self.out / "tables.json").write_text(text, encoding="utf-8")
        return {
            "name": network.name,
            "layers": [stage.name for stage in network.stages],
            "macs": source.products,
            "tables": source.tables,
            "origin": source.origin,
            "data": source.data,
            "metrics": source.metrics,
            **asdict(agreed),
        }

    def _fold(self) -> dict[str, Any]:
        self.parts = generate_parallel(
            self.source.network, self.options.scores, self.options.levels, self.device.lut_inputs
        )
        gates, most = self.parts.gates, self.device.luts if self.options.luts is None else self.options.luts
        if most and gates > most:
            raise ExportError(
                f"the parallel design takes up to {gates:,} lookup tables and there are {most:,}: take a larger "
                "--target, fewer neurons, or --style folded"
            )
        rows = {part.name: {"luts": part.gates, "depth": part.latency} for part in self.parts.parts}
        return {"layers": rows, "interval": 1, "latency": self.parts.latency, "luts": gates}

    def _generate(self) -> dict[str, Any]:
        self.design = self.parts.design
        self._write_design()
        return self._described()

    def _vectors(self) -> Vectors:
        d = self.design
        return parallel_vectors(self.source.network, self.source.inputs, d.class_bits, d.score_bits, d.scores)

    def _plan(self, vectors: Vectors, predicted: int) -> list[tuple[str, Vectors]]:
        """Verilator for all vectors, and Icarus for as many as it does in a minute or so.

        CXXRTL takes minutes to compile large bodies of logic, so it comes last.
        """
        if self.options.simulators is not None:
            return [(name, vectors) for name in self.options.simulators]
        here = available()
        if not here:
            raise ExportError(
                "there is no simulator: pip install 'bnnapps[fpga]' and a C++ compiler, or apt install iverilog"
            )
        few = vectors.take(max(2, min(len(vectors), _REFEREE_GATES // self.parts.gates)))
        small = self.parts.gates < _CXXRTL_GATES
        order: list[str] = [
            name for name in ("verilator", "icarus", "cxxrtl") if name in here and (name != "cxxrtl" or small)
        ]
        order = (order or list(here))[:2]
        return [(name, few if name == "icarus" and len(order) > 1 else vectors) for name in order]

    def _synthesize(self) -> dict[str, Any]:
        found = synthesize_parallel(self.device, self.rtl, library(self.design), self._tick("synthesize"))
        return self._fits(found)

    def _report(self) -> dict[str, Any]:
        from bnnapps.export.fpga.report import make_report, write_report

        rows = self._rows()
        found = make_report(self.source, self.design, self.device, self.options, self.found, versions(), rows)
        write_report(found, self.out)
        return found

    def _rows(self) -> list[dict[str, Any]]:
        """One row a part: what it is, its depth, estimates and cells."""
        from bnnapps.export.fpga.report import CELLS, ESTIMATE, PREDICTED

        network, cells = self.source.network, self.found["synthesize"]["parts"]
        names = [stage.name for stage in network.stages] + [network.counts.name, "head"]
        rows = []
        for part, name, what in zip(self.parts.parts, names, _what(network), strict=True):
            row: dict[str, Any] = {"layer": name, "what": what}
            row["depth"] = {"value": part.latency, "kind": PREDICTED}
            row["LUT, estimated"] = {"value": part.gates, "kind": ESTIMATE}
            own = cells.get(part.name, asdict(Cells()))
            for title, key in (("LUT", "luts"), ("FF", "ffs"), ("BRAM", "brams"), ("DSP", "dsps")):
                row[title] = {"value": own[key], "kind": CELLS}
            rows.append(row)
        return rows


def _what(network: Any) -> list[str]:
    found = []
    for stage in network.stages:
        if isinstance(stage, Comparators):
            found.append(f"{stage.outputs} comparators of {len(set(stage.feature.tolist()))} inputs")
        elif isinstance(stage, Tables):
            found.append(f"{stage.outputs} tables of {stage.wires.shape[1]} inputs")
        elif isinstance(stage, Neurons):
            found.append(f"dense, {stage.weight.shape[1]} to {stage.outputs}")
    classes, terms = network.counts.terms.shape
    return [*found, f"{classes} counts of {terms} bits", f"largest of {classes} scores"]


def synthesize_parallel(device: Device, folder: Path, files: list[str], tick: Tick | None = None) -> Synthesized:
    """Synthesise the parallel design in a folder; for a target that is routed, with the loader in front of it.

    The total is of the design itself; the loader is one of the parts.

    Raises:
        MissingExtraError: pyosys is not installed.
        ExportError: Yosys fails.

    """
    top = "pins" if device.route else "top"
    more = " pins.v" if device.route else ""
    synth = device.synth.replace("-top top", f"-top {top}")
    commands = [f"read_verilog -defer {' '.join(files)} top.v{more}", synth, "autoname", f"write_json {NETLIST}"]
    usage = run_yosys(commands, folder, "synthesis", "synthesis", tick)
    try:
        cells = json.loads((folder / NETLIST).read_text(encoding="utf-8"))["modules"][top]["cells"]
    except (OSError, ValueError, KeyError):
        raise ExportError(f"Yosys wrote no netlist: see {folder / 'synthesis.log'}") from None
    kinds: dict[str, Counter[str]] = {}
    for name, cell in cells.items():
        loads = LOADER in cell.get("attributes", {}).get("src", "")
        kinds.setdefault("loader" if loads else owner_of(name, top), Counter())[cell["type"]] += 1
    parts: Mapping[str, Cells] = {name: summed(found) for name, found in kinds.items()}
    core = sum((found for name, found in kinds.items() if name != "loader"), Counter())
    return Synthesized(summed(core), parts, usage.seconds, usage.megabytes)


def owner_of(name: str, top: str) -> str:
    """The instance that a cell of a flat netlist belongs to."""
    path = name.replace("$flatten", "").replace("\\", "")
    steps = [step for step in path.split(".") if step]
    if top == "pins" and steps and steps[0] == "core":
        steps = steps[1:]
    return steps[0] if len(steps) > 1 and not steps[0].startswith("$") else ""

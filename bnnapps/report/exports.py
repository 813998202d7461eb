"""The exports of a run: the file, the verdict of its comparison with torch, and how fast it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bnnapps.profile.table import size
from bnnapps.report import numbers
from bnnapps.report.records import BenchRecord, LevelParity, ParityRecord
from bnnapps.report.run import Export

Tone = Literal["good", "fair", "bad"]


@dataclass(frozen=True)
class LevelRow:
    """One graph-optimisation level; cells are text."""

    level: str
    verdict: str
    tone: Tone
    difference: str
    led: str
    agreement: str
    flips: str
    sums: str


@dataclass(frozen=True)
class StepRow:
    """One step of an export; cells are text."""

    name: str
    agrees: str
    changed: str


@dataclass(frozen=True)
class LatencyRow:
    """One network at one number of threads and one batch size; cells are text."""

    network: str
    threads: str
    batch: str
    median: str
    spread: str
    ratio: str


@dataclass(frozen=True)
class ExportRow:
    """One exported file; cells are text.

    Attributes:
        verdict: in one or two words; `tone` colours it; `explains` says it in a sentence.
        levels: what was found at each graph-optimisation level.
        steps: what the check of each step of the export found.
        latencies: what was measured, of the file and its twins; `measured` says how.
        about: further facts, each with its name.

    """

    dialect: str
    path: str
    bytes: str
    ratio: str
    verdict: str
    tone: Tone
    explains: str
    difference: str
    agreement: str
    latency: str
    levels: tuple[LevelRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    latencies: tuple[LatencyRow, ...] = ()
    measured: str = ""
    about: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def export_row(export: Export, float_bytes: int | None) -> ExportRow:
    """How an export is shown. `float_bytes`: of the float model, for the ratio."""
    found = export.parity
    verdict, tone, explains = _verdict(export)
    ratio = "" if not float_bytes or not export.bytes else numbers.times(float_bytes / export.bytes)
    levels = found.levels if found is not None else ()
    steps = found.steps if found is not None else ()
    return ExportRow(
        dialect=export.dialect,
        path=export.path,
        bytes="" if export.bytes is None else size(export.bytes),
        ratio=ratio,
        verdict=verdict,
        tone=tone,
        explains=explains,
        difference=_over(levels, lambda v: v.max_abs_diff, max, numbers.small),
        agreement=_over(levels, lambda v: v.argmax_agreement, min, _share),
        latency=_latency(export),
        levels=tuple(_level(v) for v in levels),
        steps=tuple(StepRow(s.name, s.agrees, _or_empty(s.max_abs_diff, numbers.small)) for s in steps),
        latencies=() if export.bench is None else _latencies(export.bench),
        measured="" if export.bench is None else _measured(export.bench),
        about=_about(found) if found is not None else (),
        notes=found.notes if found is not None else (),
    )


def _verdict(export: Export) -> tuple[str, Tone, str]:
    if export.bytes is None:
        return "no file", "bad", f"{export.path} is missing."
    found = export.parity
    if found is None:
        return "not checked", "bad", "There is no readable model.parity.json beside the file."
    flips = max((v.sign_flips for v in found.levels), default=0)
    codes = max((v.codes for v in found.levels), default=0)
    levels = f"at all {len(found.levels)} optimisation levels" if len(found.levels) > 1 else "in ONNX Runtime"
    if found.verdict == "exact":
        same = f"All {codes:,} codes are those of torch {levels}; the" if codes else "The"
        return "exact", "good", f"{same} outputs agree up to float rounding."
    if found.verdict == "rounding":
        agrees = f"Every layer by itself agrees with torch {levels}."
        differ = f"{flips:,} of {codes:,} codes differ, each for a value within rounding of its threshold."
        return "equal up to rounding", "fair", f"{differ} {agrees}" if flips else agrees
    return found.verdict, "bad", "See the parity file."


def _latency(export: Export) -> str:
    """The first that was measured, or what the parity file says."""
    bench = export.bench
    own = [] if bench is None else [v for v in bench.latencies if v.name == bench.name]
    if own:
        return f"{own[0].median:.2f} ms, {_count(own[0].threads, 'thread')}, batch {own[0].batch}"
    found = export.parity
    return "" if found is None or found.latency is None else numbers.plain(found.latency)


def _latencies(bench: BenchRecord) -> tuple[LatencyRow, ...]:
    own = {(v.threads, v.batch): v.median for v in bench.latencies if v.name == bench.name}
    rows = []
    for v in sorted(bench.latencies, key=lambda v: (v.threads, v.batch)):
        base = own.get((v.threads, v.batch))
        ratio = numbers.times(v.median / base) if base and v.name != bench.name else ""
        spread = f"{v.p10:.2f} to {v.p90:.2f}"
        rows.append(LatencyRow(v.name, str(v.threads), str(v.batch), f"{v.median:.2f}", spread, ratio))
    return tuple(rows)


def _measured(bench: BenchRecord) -> str:
    """How it was measured, in a sentence."""
    where = f" on {bench.cpu}" if bench.cpu else ""
    kernels = f", {bench.kernels} kernels" if bench.kernels else ", without kernels of our own"
    runs = max((v.runs for v in bench.latencies), default=0)
    notes = "".join(f" Note: {note}." for note in bench.notes)
    return f"Measured with `bnnapps bench`{where}{kernels}: {_count(runs, 'call')} of each, in turns.{notes}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number:,} {thing}s"


def _level(v: LevelParity) -> LevelRow:
    return LevelRow(
        level=v.level,
        verdict=v.verdict,
        tone="good" if v.verdict == "exact" else "fair" if v.verdict == "rounding" else "bad",
        difference=_or_empty(v.max_abs_diff, numbers.small),
        led=_or_empty(v.led_max_abs_diff, numbers.small),
        agreement=_or_empty(v.argmax_agreement, _share),
        flips=f"{v.sign_flips:,} of {v.codes:,}" if v.codes else "",
        sums=f"{v.sums:,}" if v.sums else "",
    )


def _about(found: ParityRecord) -> tuple[tuple[str, str], ...]:
    facts = [("compared one by one", numbers.plain({k.replace("_", " "): v for k, v in found.layers.items()}))]
    shapes = (", ".join(f"{name} {numbers.shape(value)}" for name, value in sample.items()) for sample in found.inputs)
    facts.append(("inputs", "; ".join(shapes)))
    facts.append(("free sizes", "; ".join(f"{name}: {', '.join(axes)}" for name, axes in found.dynamic_axes.items())))
    facts.append(("versions", numbers.plain(found.versions)))
    return tuple((name, value) for name, value in facts if value)


def _over(
    levels: Sequence[LevelParity],
    read: Callable[[LevelParity], float | None],
    worst: Callable[[Sequence[float]], float],
    text: Callable[[float], str],
) -> str:
    values = [value for v in levels if (value := read(v)) is not None]
    return text(worst(values)) if values else ""


def _or_empty(value: float | None, text: Callable[[float], str]) -> str:
    return "" if value is None else text(value)


def _share(value: float) -> str:
    return "100 %" if value == 1 else f"{100 * value:.2f} %"

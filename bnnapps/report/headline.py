"""What stands at the top: the title, and the few numbers that matter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bnnapps.errors import BinarizeError
from bnnapps.methods.method import get_method
from bnnapps.profile.table import short, size
from bnnapps.report import numbers
from bnnapps.report.exports import ExportRow
from bnnapps.report.run import Run, Stage
from bnnapps.report.stages import float_stage, monitored, teacher_of, value_of

Tone = Literal["", "good", "fair", "bad"]


@dataclass(frozen=True)
class Tile:
    """One headline number: what it is, the number, what it was before (or ""), and remarks."""

    label: str
    value: str
    before: str = ""
    remarks: tuple[str, ...] = ()
    tone: Tone = ""


@dataclass(frozen=True)
class Title:
    """The title of the page.

    Attributes:
        task: the plugin.
        method: the methods that were used, or "float".
        data: the data set in words.
        origin: "real" or "generated", where the data say so.
        facts: further facts about the data, each with its name.
        references: title and reference of each method.

    """

    task: str
    method: str
    data: str
    origin: str
    facts: tuple[tuple[str, str], ...]
    references: tuple[tuple[str, str, str], ...]


def title_of(run: Run) -> Title:
    """The title, from the result of the run, or from its recipe while it has none."""
    used = _methods(run)
    data, facts = _data(run)
    task = run.result.task if run.result is not None else None
    task = task if task is not None else str(run.recipe.get("task", "unknown task"))
    origin = re.search(r"\b(real|generated)\b", " ".join([data, *(value for _, value in facts)]))
    references = []
    for name in used:
        try:
            method = get_method(name)
        except BinarizeError:
            continue
        references.append((name, method.title, method.reference))
    methods = " + ".join(used) if used else "float"
    return Title(task, methods, data, origin[1] if origin is not None else "", facts, tuple(references))


def _methods(run: Run) -> list[str]:
    plans = [run.plan, *(s.plan for s in reversed(run.stages))]
    for plan in plans:
        if plan is not None:
            return list(dict.fromkeys(e.method for e in plan.binarized if e.method is not None))
    settings = run.recipe.get("binarize")
    name = settings.get("method") if isinstance(settings, dict) else None
    return [str(name)] if name is not None and not run.finished else []


def _data(run: Run) -> tuple[str, tuple[tuple[str, str], ...]]:
    known: Mapping[str, Any] = run.result.data if run.result is not None else {}
    if not known:
        settings = run.recipe.get("data")
        known = {k: v for k, v in settings.items() if v is not None} if isinstance(settings, dict) else {}
        name = " ".join(str(known[k]) for k in ("source", "task", "name") if k in known)
        return name if name else "unknown data", ()
    facts = tuple((str(k).replace("_", " "), numbers.plain(v)) for k, v in known.items() if k != "data")
    return str(known.get("data", "unknown data")), facts


def tiles(run: Run, exports: list[ExportRow]) -> list[Tile]:
    """The headline numbers; one that is not known is left out."""
    found = [_metric(run), _size(run), _operations(run), _layers(run), _exports(exports)]
    return [tile for tile in found if tile is not None]


def _metric(run: Run) -> Tile | None:
    metric, student = monitored(run), run.student
    value = value_of(student, metric)
    if student is None or value is None:
        return None
    teacher, real = teacher_of(student, run.stages), float_stage(run.stages)
    beside = [("teacher", teacher)]
    if real is not None and real not in (teacher, student):
        beside.append(("float stage", real))
    remarks = [_beside(role, stage, metric, value) for role, stage in beside if stage is not None]
    if run.student is not run.stages[-1]:
        remarks.append(f"stage '{student.name}', not yet the last one")
    return Tile(f"dev {metric.replace('_', ' ')}", numbers.metric(value), remarks=tuple(r for r in remarks if r))


def _beside(role: str, stage: Stage, metric: str, value: float) -> str:
    other = value_of(stage, metric)
    if other is None:
        return ""
    who = role if stage.name == role else f"{role} '{stage.name}'"
    text = f"{who}: {numbers.metric(other)}"
    maximize = stage.result is None or stage.result.maximize
    return f"{text} ({numbers.percent(value / other)} of it)" if maximize and other > 0 else text


def _size(run: Run) -> Tile | None:
    costs = run.costs
    if costs is None or costs.packed_bytes <= 0:
        return None
    if costs.packed_bytes >= costs.float_bytes:
        return Tile("size", size(costs.packed_bytes), remarks=("float32",))
    ratio = numbers.times(costs.float_bytes / costs.packed_bytes)
    return Tile("size, packed", size(costs.packed_bytes), size(costs.float_bytes), (f"{ratio} smaller than float32",))


def _operations(run: Run) -> Tile | None:
    costs = run.costs
    if costs is None or costs.macs <= 0:
        return None
    if costs.bops == 0:
        return Tile("operations", f"{short(costs.flops)} MACs", remarks=("all of them float",))
    coded = costs.macs - costs.flops
    share = f"{numbers.percent(coded / costs.macs)} of the products run on codes"
    ratio = f"{numbers.times(costs.float_macs / costs.ops_paper)} fewer" if costs.ops_paper > 0 else ""
    value, before = f"{numbers.count(costs.ops_paper)} OPs", f"{short(costs.float_macs)} MACs"
    return Tile("operations", value, before, tuple(r for r in (ratio, share) if r))


def _layers(run: Run) -> Tile | None:
    if run.plan is None:
        return None
    binary, every = len(run.plan.binarized), len(run.plan.entries)
    remarks: tuple[str, ...] = ()
    if run.costs is not None:
        bits = run.costs.params_1bit + run.costs.params_2bit
        remarks = (f"{numbers.percent(bits / max(1, bits + run.costs.params_float))} of the parameters are codes",)
    return Tile("binary layers", f"{binary} of {every}", remarks=remarks)


def _exports(exports: list[ExportRow]) -> Tile | None:
    if not exports:
        return None
    worst = max(exports, key=lambda e: ("good", "fair", "bad").index(e.tone))
    named = tuple(f"{e.dialect}: {e.verdict}" for e in exports)
    return Tile("exports", worst.verdict, remarks=named if len(exports) > 1 else (exports[0].dialect,), tone=worst.tone)

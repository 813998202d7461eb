"""The stages of a run as the report shows them: how they were trained, what they reached, and beside whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnnapps.report import numbers
from bnnapps.report.layers import bits_of
from bnnapps.report.records import StageResult
from bnnapps.report.run import Run, Stage
from bnnapps.report.series import Curves, curves
from bnnapps.training.teachers import in_words


@dataclass(frozen=True)
class Score:
    """One metric of a stage: for the weights it hands on, and for those of its last epoch."""

    name: str
    chosen: str
    last: str


@dataclass(frozen=True)
class StageRow:
    """One row of the table of stages; cells are text."""

    number: int
    name: str
    network: str
    start: str
    teacher: str
    scores: tuple[Score, ...]
    selected: str
    steps: str
    epochs: str
    seconds: str
    state: str


def stage_rows(run: Run) -> list[StageRow]:
    """A row for each stage, done or not."""
    return [_row(run, stage) for stage in run.stages]


def _row(run: Run, stage: Stage) -> StageRow:
    settings, result = stage.settings, stage.result
    planned_epochs = "" if settings is None or settings.epochs is None else str(settings.epochs)
    planned_steps = "" if settings is None or settings.steps is None else f"{settings.steps:,}"
    logged = curves(run.events, stage.name).steps if stage.state == "in progress" else None
    selected: str = settings.select if settings is not None else ""
    if result is not None and result.selected is not None:
        selected = result.selected
    return StageRow(
        number=stage.number,
        name=stage.name,
        network=_network(stage),
        start="as configured" if settings is None or settings.init is None else settings.init,
        teacher="–" if settings is None else in_words(settings.teacher),
        scores=_scores(result.metrics, result.last) if result is not None else (),
        selected=selected,
        steps=_done(result.steps if result is not None else logged, planned_steps) + (" so far" if logged else ""),
        epochs=_done(result.epochs if result is not None else None, planned_epochs),
        seconds=_time(result) if result is not None else "",
        state=stage.state,
    )


def _time(result: StageResult) -> str:
    """How long it took; a stage that went on after a kill knows only the time since then."""
    if result.seconds is None:
        return ""
    text = numbers.duration(result.seconds)
    return text if result.resumed_from_step is None else f"{text} since step {result.resumed_from_step:,}"


def _network(stage: Stage) -> str:
    if stage.plan is None:
        return "float" if stage.is_float else ""
    methods = list(dict.fromkeys(e.method for e in stage.plan.binarized if e.method is not None))
    width = stage.settings.width if stage.settings is not None else None
    parts = [" + ".join(methods), bits_of(stage.plan), f"{len(stage.plan.binarized)} binary layers"]
    if width is not None:
        parts.append(f"width {width:g}")
    return ", ".join(p for p in parts if p)


def _scores(chosen: Mapping[str, float], last: Mapping[str, float]) -> tuple[Score, ...]:
    return tuple(
        Score(name.replace("_", " "), numbers.metric(value), numbers.metric(last[name]) if name in last else "")
        for name, value in chosen.items()
    )


def _done(count: int | None, planned: str) -> str:
    if count is None:
        return f"of {planned}" if planned else ""
    done = f"{count:,}"
    return f"{done} of {planned}" if planned and planned != done else done


def monitored(run: Run) -> str:
    """The metric that decides, without its `dev/`: from a result, or the first that was logged; "" if there is none."""
    known = [run.result.monitor if run.result is not None else None]
    known += [s.result.monitor for s in run.stages if s.result is not None]
    named = next((name for name in known if name is not None), None)
    if named is not None:
        return named.removeprefix("dev/")
    for stage in run.stages:
        for series in curves(run.events, stage.name).metrics:
            return series.name
    return ""


def value_of(stage: Stage | None, metric: str) -> float | None:
    """What a stage reached, for the weights that it hands on."""
    return None if stage is None or stage.result is None else stage.result.metrics.get(metric)


def teacher_of(stage: Stage, stages: Sequence[Stage]) -> Stage | None:
    """The earlier stage that a stage learned from; `None`: it had none, or a file."""
    name = stage.settings.teacher if stage.settings is not None else None
    return next((s for s in stages if s.name == name and s.number < stage.number), None)


def float_stage(stages: Sequence[Stage]) -> Stage | None:
    """The last stage that trained a float network."""
    return next((s for s in reversed(stages) if s.is_float), None)


def stage_curves(run: Run, stage: Stage) -> Curves:
    """What a stage logged."""
    return curves(run.events, stage.name, stage.result.epochs if stage.result is not None else None)

"""The plots of the report. Their legends are HTML, so that they wrap and can be read on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bnnapps.report.series import Series, smooth, thinned
from bnnapps.report.svg import INK, QUIET, SERIES, SURFACE, draw

WIDTH, HEIGHT = 4.8, 2.6
FEW = 40
"""A curve of at most so many points is drawn as it is; a longer one as a smooth line over its points."""
POINTS = 300
"""Most points that a curve is drawn with."""

_LOG_FROM = 50.0


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a label and the CSS class of its mark."""

    label: str
    mark: str


@dataclass(frozen=True)
class Plot:
    """A plot with its title, its legend and a remark."""

    title: str
    svg: Markup
    keys: tuple[Key, ...] = ()
    remark: str = ""


def loss_plot(total: Series, terms: Sequence[Series], steps: int, prefix: str) -> Plot:
    """The loss and its terms over the steps (to `steps`): smooth lines, the loss also as faint points."""
    shown = [s for s in terms if s.values != total.values]
    same = [s.name for s in terms if s.values == total.values]
    lines = [s for s in (total, *shown) if len(s)]

    def paint(axes: Axes) -> None:
        if len(total) > FEW:
            points = thinned(len(total), POINTS)
            xs, ys = [total.steps[i] for i in points], [total.values[i] for i in points]
            axes.plot(xs, ys, "o", color=SERIES[0], alpha=0.35, markersize=2, markeredgewidth=0, gid="points")
        for i, line in reversed(list(enumerate(lines))):
            _line(axes, line, SERIES[_colour(line, total, i)], f"line-{i}", 1.9 if line is total else 1.3, noisy=True)
        _steps_axis(axes, steps)
        if _wide(lines):
            _log_axis(axes)

    keys = [Key(_loss_label(s, total, same), f"line series-{_colour(s, total, i)}") for i, s in enumerate(lines)]
    remark = "The terms before their weights."
    if any(len(s) > FEW for s in lines):
        remark = "Moving means; points: the loss as logged. " + (remark if shown else "")
    elif not shown:
        remark = ""
    label = f"Loss over {steps} steps"
    return Plot("Training loss", draw(paint, (WIDTH, HEIGHT), prefix, label), tuple(keys), remark.strip())


def _colour(line: Series, total: Series, index: int) -> int:
    return 0 if line is total else 1 + (index - 1) % (len(SERIES) - 1) if index else 1


def _loss_label(line: Series, total: Series, same: Sequence[str]) -> str:
    if line is not total:
        return line.name
    return "loss = " + " = ".join(same) if same else "loss"


def metric_plot(
    metrics: Sequence[Series],
    monitor: str,
    steps: int,
    prefix: str,
    chosen: float | None = None,
    teacher: float | None = None,
    from_end: bool = False,
) -> Plot:
    """The dev metrics over the steps, the one that counts in front, with a ring where it was chosen.

    Args:
        metrics: one series each.
        monitor: the name of the one that decides.
        steps: where the axis ends.
        prefix: of the ids.
        chosen: its value for the weights that the stage hands on.
        teacher: its value for the teacher's weights: a dashed line.
        from_end: the ring marks the last point of that value instead of the first.

    """
    main = next((s for s in metrics if s.name == monitor), None)
    others = [s for s in metrics if s is not main and (main is None or _bounded(s) == _bounded(main))]
    lines = ([main] if main is not None else []) + others
    at = None if main is None or chosen is None else _where(main, chosen, from_end)

    def paint(axes: Axes) -> None:
        if teacher is not None:
            axes.axhline(teacher, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), gid="teacher")
        for i, line in reversed(list(enumerate(lines))):
            _line(axes, line, SERIES[i % len(SERIES)], f"line-{i}", 1.9 if line is main else 1.2, noisy=False)
        if main is not None and at is not None:
            (ring,) = axes.plot([main.steps[at]], [main.values[at]], "o", color=INK, gid="chosen")
            ring.set(markersize=8, markerfacecolor="none", markeredgewidth=1.6)
        _steps_axis(axes, steps)

    keys = [Key(s.name.replace("_", " "), f"line series-{i % len(SERIES)}") for i, s in enumerate(lines)]
    if at is not None:
        keys.append(Key("chosen weights", "ring"))
    if teacher is not None:
        keys.append(Key("teacher", "dashed"))
    label = f"{monitor} on the dev set, {len(main) if main is not None else 0} evaluations"
    return Plot("On the dev set", draw(paint, (WIDTH, HEIGHT), prefix, label), tuple(keys))


def _bounded(series: Series) -> bool:
    return all(-1 <= v <= 1 for v in series.values)


def _where(series: Series, value: float, from_end: bool) -> int | None:
    """The first or the last point of that value, but for the rounding of float32."""
    found = [i for i, v in enumerate(series.values) if abs(v - value) <= 1e-6 * max(1.0, abs(value))]
    return None if not found else found[-1] if from_end else found[0]


def rate_plot(rates: Sequence[Series], steps: int, prefix: str) -> Plot:
    """The learning rates over the steps (to `steps`)."""

    def paint(axes: Axes) -> None:
        for i, line in enumerate(rates):
            points = thinned(len(line), POINTS)
            xs, ys = [line.steps[j] for j in points], [line.values[j] for j in points]
            axes.plot(xs, ys, color=SERIES[i % len(SERIES)], gid=f"line-{i}")
        _steps_axis(axes, steps)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))

    keys = tuple(Key(s.name, f"line series-{i % len(SERIES)}") for i, s in enumerate(rates))
    svg = draw(paint, (WIDTH, HEIGHT), prefix, "Learning rate over the steps")
    return Plot("Learning rate", svg, keys if len(keys) > 1 else ())


def _line(axes: Axes, series: Series, colour: str, gid: str, width: float, noisy: bool) -> None:
    count = len(series)
    values = smooth(series.values, max(3, count // 15)) if noisy and count > FEW else series.values
    points = thinned(count, POINTS)
    xs, ys = [series.steps[i] for i in points], [values[i] for i in points]
    (drawn,) = axes.plot(xs, ys, color=colour, linewidth=width, gid=gid)
    if count <= FEW:
        drawn.set(marker="o", markersize=4.4, markeredgewidth=0.9, markeredgecolor=SURFACE)


def _steps_axis(axes: Axes, steps: int) -> None:
    axes.set_xlim(0, 1.02 * max(1, steps))
    axes.set_xlabel("steps")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def _log_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _wide(lines: Sequence[Series]) -> bool:
    """Whether the values are positive and span so much that a linear axis would hide some."""
    values = [v for s in lines for v in s.values]
    return bool(values) and min(values) > 0 and max(values) / min(values) > _LOG_FROM

"""Bars by kind of layer, before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from bnnapps.report.figures import WIDTH, Key, Plot
from bnnapps.report.svg import MUTED, SERIES, draw


@dataclass(frozen=True)
class Bars:
    """One group of a bar plot."""

    label: str
    before: float
    after: float


def bar_plot(
    title: str,
    groups: Sequence[Bars],
    labels: tuple[str, str],
    text: Callable[[float], str],
    prefix: str,
    remark: str = "",
) -> Plot:
    """Two horizontal bars a group, before and after, each with its number."""
    widest = max((max(g.before, g.after) for g in groups), default=0.0)

    def paint(axes: Axes) -> None:
        for i, group in enumerate(groups):
            for value, shift, colour, name in (
                (group.before, -0.2, MUTED, "before"),
                (group.after, 0.2, SERIES[1], "after"),
            ):
                axes.barh(i + shift, value, 0.36, color=colour, linewidth=0, gid=f"{name}-{i}")
                axes.text(value + 0.015 * widest, i + shift, text(value), va="center", fontsize=8.5)
        axes.set_yticks(range(len(groups)), [_cut(g.label) for g in groups])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlim(0, 1.22 * widest if widest > 0 else 1)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.grid(False)
        axes.tick_params(axis="y", length=0)

    size = (WIDTH, 0.35 + 0.47 * max(1, len(groups)))
    keys = (Key(labels[0], "block muted"), Key(labels[1], "block series-1"))
    return Plot(title, draw(paint, size, prefix, title), keys, remark)


def _cut(label: str, length: int = 18) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"


def bars_by_kind(pairs: Sequence[tuple[str, float, float]], most: int = 6) -> list[Bars]:
    """Sums by kind, the largest first; the smallest are put together where there are more than `most`."""
    sums: dict[str, tuple[float, float]] = {}
    for kind, before, after in pairs:
        old = sums.get(kind, (0.0, 0.0))
        sums[kind] = (old[0] + before, old[1] + after)
    bars = [Bars(kind, *values) for kind, values in sums.items() if max(values) > 0]
    bars.sort(key=lambda b: -max(b.before, b.after))
    if len(bars) <= most:
        return bars
    rest = bars[most - 1 :]
    return [*bars[: most - 1], Bars("others", sum(b.before for b in rest), sum(b.after for b in rest))]

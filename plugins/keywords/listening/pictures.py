"""Pictures of a recording and of what was heard in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from bnnapps.plugins.keywords.listening.events import Event
from bnnapps.plugins.keywords.listening.scoring import Label
from bnnapps.report.svg import INK, MUTED, QUIET, SERIES, draw, draw_rows

Floats = NDArray[np.float32]

_POINTS = 1200
"""Most points that a curve over time is drawn with."""
_COLOURS = SERIES[1:]
_HIT, _FALSE = SERIES[3], SERIES[5]


@dataclass(frozen=True)
class Marked:
    """An event with its verdict: `None` where nothing is known about what was said."""

    event: Event
    hit: bool | None


def overview(low: Floats, high: Floats, hop: float, events: Sequence[Marked], missed: Sequence[Label]) -> Markup:
    """The whole recording: its envelope, with a mark for each event, and one for each word that was missed."""
    lowest, highest = _thinned(low, np.min), _thinned(high, np.max)
    times = np.linspace(0, len(low) * hop, len(lowest), endpoint=False)
    top = max(1e-3, float(np.abs([lowest, highest]).max()))

    def paint(axes: Axes) -> None:
        axes.fill_between(times, lowest / top, highest / top, color=MUTED, linewidth=0)
        for one in events:
            axes.plot(one.event.seconds, 1.15, "v", color=_colour(one), markersize=5, markeredgewidth=0)
        for label in missed:
            axes.plot((label.start + label.end) / 2, -1.15, "^", color=SERIES[2], markersize=5, markeredgewidth=0)
        axes.set_ylim(-1.35, 1.35)
        axes.set_xlim(0, max(hop, len(low) * hop))
        axes.set_yticks([])
        axes.grid(False)
        _time_axis(axes)

    return draw(paint, (10.0, 1.7), "overview", "The recording with what was heard in it")


def stretch(
    number: int,
    start: float,
    sound: Floats,
    rate: int,
    decibels: Floats,
    posteriors: Floats,
    hop: float,
    classes: Sequence[str],
    threshold: float,
    events: Sequence[Marked],
    labels: Sequence[Label],
) -> tuple[Markup, list[tuple[str, int]]]:
    """A stretch of the recording: its waveform, its bands, and the smoothed probabilities.

    Args:
        number: of the stretch, for the ids.
        start: seconds into the recording.
        sound: samples.
        rate: of them.
        decibels: (bands, frames), low bands first.
        posteriors: (T, classes), from `start` on.
        hop: seconds between them.
        classes: their names.
        threshold: that was applied.
        events: of the whole recording.
        labels: of the whole recording.

    Returns:
        The figure, and the words that have a curve with the numbers of their colours.

    """
    length = len(sound) / rate
    stop = start + length
    shown = [one for one in events if start <= one.event.seconds < stop]
    said = [label for label in labels if label.end > start and label.start < stop]
    most = sorted(range(len(classes)), key=lambda i: -float(posteriors[:, i].max(initial=0)))[: len(_COLOURS)]
    curves = [i for i in most if float(posteriors[:, i].max(initial=0)) >= 0.1]
    times = start + np.arange(len(posteriors)) * hop

    def paint(rows: Sequence[Axes]) -> None:
        _wave(rows[0], start, sound, rate, shown, said)
        _bands(rows[1], start, stop, decibels)
        axes = rows[2]
        for colour, label in enumerate(curves):
            axes.plot(times, posteriors[:, label], color=_COLOURS[colour], linewidth=1.4)
        axes.axhline(threshold, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        for one in shown:
            axes.plot(one.event.seconds, one.event.score, "o", color=_colour(one), markersize=5, markeredgewidth=0)
        axes.set_ylim(-0.03, 1.06)
        axes.set_yticks([0, 0.5, 1])
        axes.set_ylabel("probability")
        axes.set_xlim(start, stop)
        _time_axis(axes)

    picture = draw_rows(paint, (1.1, 1.0, 1.2), (10.0, 4.2), f"stretch-{number}", f"{length:.0f} s from {start:.0f} s")
    return picture, [(classes[label], colour + 1) for colour, label in enumerate(curves)]


def trade(points: Sequence[tuple[float, float, float]], chosen: tuple[float, float, float]) -> Markup:
    """Misses over false alarms, one point a threshold: (threshold, false alarms an hour, share of misses)."""

    def paint(axes: Axes) -> None:
        axes.plot([p[1] for p in points], [p[2] for p in points], "-o", color=SERIES[1], markersize=3.5)
        axes.plot(chosen[1], chosen[2], "o", markerfacecolor="none", markeredgecolor=INK, markersize=9)
        axes.set_xlabel("false alarms an hour")
        axes.set_ylabel("words missed")
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(left=min(0.0, *(p[1] for p in points)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0%}"))
        axes.xaxis.set_major_locator(MaxNLocator(6))

    return draw(paint, (4.8, 2.6), "trade", "Words missed over false alarms an hour, by threshold")


def _wave(
    axes: Axes, start: float, sound: Floats, rate: int, events: Sequence[Marked], labels: Sequence[Label]
) -> None:
    low, high = _thinned(sound, np.min), _thinned(sound, np.max)
    times = start + np.linspace(0, len(sound) / rate, len(low), endpoint=False)
    top = max(1e-3, float(np.abs(sound).max(initial=0)))
    axes.fill_between(times, low / top, high / top, color=MUTED, linewidth=0)
    for label in labels:
        axes.axvspan(label.start, label.end, ymax=0.12, color=QUIET, alpha=0.35, linewidth=0)
        middle = (max(label.start, start) + min(label.end, times[-1])) / 2
        axes.text(middle, -1.28, label.word, fontsize=8, ha="center", va="bottom", color=INK, clip_on=True)
    for one in events:
        axes.text(
            one.event.seconds, 1.3, one.event.word, fontsize=8, ha="center", va="top", color=_colour(one), clip_on=True
        )
        axes.axvline(one.event.seconds, ymin=0.15, ymax=0.85, color=_colour(one), linewidth=1.2)
    axes.set_ylim(-1.35, 1.35)
    axes.set_yticks([])
    axes.grid(False)


def _bands(axes: Axes, start: float, stop: float, decibels: Floats) -> None:
    top = float(decibels.max(initial=-100.0))
    axes.imshow(
        decibels, origin="lower", aspect="auto", cmap="magma", vmin=top - 70, vmax=top, interpolation="nearest",
        extent=(start, stop, 0, len(decibels)),
    )  # fmt: skip
    axes.set_yticks([])
    axes.set_ylabel("bands")
    axes.grid(False)


def _colour(one: Marked) -> str:
    return SERIES[1] if one.hit is None else _HIT if one.hit else _FALSE


def _thinned(values: Floats, least: object) -> Floats:
    """At most `_POINTS` extremes of neighbouring values."""
    step = -(-len(values) // _POINTS)
    if step <= 1:
        return values
    padded = np.pad(values, (0, -len(values) % step), mode="edge").reshape(-1, step)
    found: Floats = padded.min(axis=1) if least is np.min else padded.max(axis=1)
    return found


def _time_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 3, 5, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: clock(x)))


def clock(seconds: float) -> str:
    """`5.2 s`, `3:05` or `1:02:05`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"

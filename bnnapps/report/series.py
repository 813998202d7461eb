"""The curves of a stage, from the events of its training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOSS, TERM, DEV, RATE = "loss", "loss/", "dev/", "lr"
FLIPS, SATURATION = "flips/", "saturation/"


@dataclass(frozen=True)
class Series:
    """One number over the training: `values[i]` after `steps[i]` optimizer steps."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Curves:
    """What a stage logged.

    Attributes:
        total: the whole loss.
        terms: its terms, not weighted.
        metrics: on the dev set, one point an evaluation.
        rates: learning rates.
        flips: by layer, the fraction of signs that changed in an epoch.
        saturation: by layer, the fraction of the inputs of its sign where no gradient passes.

    """

    total: Series
    terms: tuple[Series, ...]
    metrics: tuple[Series, ...]
    rates: tuple[Series, ...]
    flips: tuple[Series, ...] = ()
    saturation: tuple[Series, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing was logged."""
        return not (len(self.total) or self.terms or self.metrics or self.rates)

    @property
    def steps(self) -> int:
        """The last step that anything was logged at."""
        found = (self.total, *self.terms, *self.metrics, *self.rates)
        return max((s.steps[-1] for s in found if len(s)), default=0)


def curves(events: Sequence[Mapping[str, Any]], stage: str, epochs: int | None = None) -> Curves:
    """The curves of a stage.

    Numbers that are not finite are left out. So are evaluations that repeat one: after a training the last weights
    are evaluated, then the best ones, and both are logged.

    Args:
        events: those of the run, in order.
        stage: its name.
        epochs: how many it ran, once it is finished.

    """
    found: dict[str, dict[int, float]] = {}
    for event in events:
        step = event.get("step")
        if event.get("stage") != stage or not isinstance(step, int):
            continue
        after = _after_training(event, epochs)
        for name, value in event.items():
            if name in ("stage", "step", "epoch") or not _is_number(value):
                continue
            points = found.setdefault(name, {})
            # A step counts from 0 while training, so the point lies behind it; after the training it is a count.
            at = step if after else step + 1
            if not (after and at in points):
                points[at] = float(value)
    series = [_series(name, points) for name, points in found.items()]
    return Curves(
        total=next((s for s in series if s.name == LOSS), Series(LOSS, (), ())),
        terms=tuple(_named(s, TERM) for s in series if s.name.startswith(TERM)),
        metrics=tuple(_named(s, DEV) for s in series if s.name.startswith(DEV)),
        flips=tuple(_named(s, FLIPS) for s in series if s.name.startswith(FLIPS)),
        saturation=tuple(_named(s, SATURATION) for s in series if s.name.startswith(SATURATION)),
        rates=tuple(s for s in series if s.name == RATE or s.name.startswith((RATE + "-", RATE + "/"))),
    )


def _series(name: str, points: Mapping[int, float]) -> Series:
    steps = sorted(points)
    return Series(name, tuple(steps), tuple(points[s] for s in steps))


def _after_training(event: Mapping[str, Any], epochs: int | None) -> bool:
    epoch = event.get("epoch")
    return epochs is not None and isinstance(epoch, int) and epoch >= epochs


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _named(series: Series, prefix: str) -> Series:
    return Series(series.name.removeprefix(prefix), series.steps, series.values)


def smooth(values: Sequence[float], width: int) -> list[float]:
    """The centred moving mean.

    y[i] = mean(x[i - h .. i + h]) with h = width // 2, over the part of the window that exists. Shapes: (n,) to (n,).
    """
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    half, count = width // 2, len(values)
    spans = [(max(0, i - half), min(count, i + half + 1)) for i in range(count)]
    return [(sums[stop] - sums[start]) / (stop - start) for start, stop in spans]


def thinned(count: int, limit: int) -> list[int]:
    """At most `limit` of the indices 0 .. count - 1, evenly spread, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    return [round(i * (count - 1) / (limit - 1)) for i in range(limit)]

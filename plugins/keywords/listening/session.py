"""Hearing one recording from beginning to end: files, numbers and a page."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bnnapps.plugins.keywords.hearing import Hearing
from bnnapps.plugins.keywords.listening.events import Event, events_of, keywords_of, smoothed
from bnnapps.plugins.keywords.listening.posteriors import Floats, Heard, hear
from bnnapps.plugins.keywords.listening.recording import Recording
from bnnapps.plugins.keywords.listening.scoring import Label, Score, score
from bnnapps.training.folder import write_text
from bnnapps.training.listening import Listening

THRESHOLDS = tuple(round(0.3 + 0.05 * i, 2) for i in range(14))
"""Those of the table: 0.3 to 0.95."""


@dataclass(frozen=True)
class Session:
    """A recording that was heard.

    Attributes:
        recording: it.
        heard: what the network said at each time.
        smooth: its probabilities, averaged.
        classes: of the network.
        settings: how it was heard.
        window: seconds of a window.
        depth: which layers ran; empty for a network of one depth.
        events: the words.
        labels: what was said; `None` where nobody knows.
        score: how the events compare with it.
        sweep: the same at each of `THRESHOLDS`.
        seconds: how long the network took.

    """

    recording: Recording
    heard: Heard
    smooth: Floats
    classes: tuple[str, ...]
    settings: Listening
    window: float
    depth: str
    events: list[Event]
    labels: list[Label] | None
    score: Score | None
    sweep: list[tuple[float, Score]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the probabilities."""
        said = None if self.labels is None else sorted({x.word for x in self.labels} - set(self.words))
        settings = {k: getattr(self.settings, k) for k in ("hop", "threshold", "smoothing", "refractory", "quiet")}
        found: dict[str, Any] = {
            "recording": str(self.recording.path),
            "seconds": self.recording.seconds,
            "rate": self.recording.own_rate,
            "channels": self.recording.channels,
            "window": self.window,
            **settings,
            "latency": self.latency,
            "depth": self.depth,
            "heard_in": self.seconds,
            "events": [{"time": e.seconds, "word": e.word, "score": e.score} for e in self.events],
        }
        if self.score is not None:
            found["score"] = self.score.to_dict()
            found["other_words"] = said
            found["thresholds"] = [{"threshold": at, **one.to_dict()} for at, one in self.sweep]
        return found

    @property
    def words(self) -> tuple[str, ...]:
        """The classes that are words."""
        return tuple(self.classes[i] for i in keywords_of(self.classes))

    @property
    def latency(self) -> float:
        """Seconds from the middle of a word to when it can be known: half a window and half the smoothing."""
        return (self.window + self.settings.smoothing) / 2


def listen(
    network: nn.Module,
    hearing: Hearing,
    recording: Recording,
    classes: Sequence[str],
    window: int,
    settings: Listening,
    labels: list[Label] | None,
    depth: str,
    tell: Callable[[int], None],
) -> Session:
    """Hear a recording, and compare with its labels where there are some."""
    began = time.monotonic()
    hop = max(1, round(settings.hop * recording.rate))
    heard = hear(network, hearing, recording, window, hop, settings.quiet, tell)
    smooth = smoothed(heard.posteriors, heard.hop, settings.smoothing)
    names = tuple(classes)
    words = [names[i] for i in keywords_of(names)]

    def at(threshold: float) -> list[Event]:
        return events_of(smooth, names, heard.hop, threshold, settings.refractory)

    events = at(settings.threshold)
    scored: Score | None = None
    sweep: list[tuple[float, Score]] = []
    if labels is not None:
        scored = score(events, labels, words, recording.seconds)
        sweep = [(t, score(at(t), labels, words, recording.seconds)) for t in THRESHOLDS]
    length = window / recording.rate
    spent = time.monotonic() - began
    return Session(recording, heard, smooth, names, settings, length, depth, events, labels, scored, sweep, spent)


def write_session(session: Session, folder: Path) -> None:
    """`events.csv`, `events.txt` (labels for Audacity) and `result.json`."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["time", "word", "score"])
    rows.writerows([f"{e.seconds:.3f}", e.word, f"{e.score:.4f}"] for e in session.events)
    write_text(folder / "events.csv", table.getvalue())
    marks = "".join(f"{e.seconds:.3f}\t{e.seconds:.3f}\t{e.word} {e.score:.2f}\n" for e in session.events)
    write_text(folder / "events.txt", marks)
    write_text(folder / "result.json", json.dumps(session.to_dict(), indent=2, ensure_ascii=False) + "\n")

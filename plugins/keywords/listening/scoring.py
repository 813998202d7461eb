"""Events against what was said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.listening.events import Event

TOLERANCE = 0.25
"""Seconds that an event may lie before the word begins or after it ends."""


@dataclass(frozen=True)
class Label:
    """A word that was said, from `start` to `end` in seconds."""

    start: float
    end: float
    word: str


@dataclass(frozen=True)
class Score:
    """What events are worth.

    Attributes:
        said: words of the network that were said.
        hits: of those, the ones with an event of their word.
        false_alarms: events that are no hit, also of a wrong word.
        hours: length of the recording.
        matched: for each event, the label that it hits.

    """

    said: int
    hits: int
    false_alarms: int
    hours: float
    matched: tuple[int | None, ...]

    @property
    def misses(self) -> int:
        """Words without an event of their own."""
        return self.said - self.hits

    @property
    def alarms_per_hour(self) -> float:
        """False alarms an hour."""
        return self.false_alarms / self.hours

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        found = asdict(self)
        del found["matched"]
        return found | {"misses": self.misses, "false_alarms_per_hour": self.alarms_per_hour}


def score(events: Sequence[Event], labels: Sequence[Label], words: Sequence[str], seconds: float) -> Score:
    """Compare events with labels, both in order of time.

    An event hits the first label of its word that no earlier event hit and that it lies in, give or take `TOLERANCE`.
    Labels of other words are no words to be found: an event there is a false alarm.

    Args:
        events: what was heard.
        labels: what was said.
        words: those that the network knows.
        seconds: length of the recording.

    """
    wanted = {i for i, label in enumerate(labels) if label.word in words}
    said = len(wanted)
    matched: list[int | None] = []
    for event in events:
        hit = next((i for i in sorted(wanted) if _hits(event, labels[i])), None)
        wanted.discard(-1 if hit is None else hit)
        matched.append(hit)
    return Score(said, said - len(wanted), matched.count(None), seconds / 3600, tuple(matched))


def _hits(event: Event, label: Label) -> bool:
    inside = label.start - TOLERANCE <= event.seconds <= label.end + TOLERANCE
    return inside and event.word == label.word


def read_labels(path: Path) -> list[Label]:
    """Labels as Audacity writes them: a line each, start, end and word, with tabs between.

    Raises:
        DataError: the file or a line cannot be read.

    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as problem:
        raise DataError(f"--labels: {path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"--labels: {path} is no text in UTF-8") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("\\"):  # Audacity's second line of a label: its frequencies
            continue
        fields = line.split("\t")
        try:
            start, end = float(fields[0]), float(fields[1])
            word = fields[2].strip()
        except (ValueError, IndexError):
            start = end = math.nan
            word = ""
        if not (0 <= start <= end < math.inf) or not word:
            raise DataError(
                f"{path}, line {number}: {line.strip()[:60]!r} is no label; give START<tab>END<tab>WORD, in seconds"
            )
        found.append(Label(start, end, word))
    if not found:
        raise DataError(f"--labels: {path} has no labels: give START<tab>END<tab>WORD, a line each")
    return sorted(found, key=lambda label: label.start)


def write_labels(labels: Sequence[Label]) -> str:
    """The text that `read_labels` reads."""
    return "".join(f"{label.start:.3f}\t{label.end:.3f}\t{label.word}\n" for label in labels)

"""The page about a recording that was heard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import bnnapps.report
from bnnapps.plugins.keywords.features import Features, FeatureSettings
from bnnapps.plugins.keywords.listening.pictures import Marked, clock, overview, stretch, trade
from bnnapps.plugins.keywords.listening.scoring import Label, Score
from bnnapps.plugins.keywords.listening.session import Session

_TEMPLATES = [Path(__file__).parent / "templates", Path(bnnapps.report.__file__).parent / "templates"]
_STRETCH = 15.0
"""Seconds that are drawn at once."""
_STRETCHES = 6
_EVENTS = 200
"""Most rows of the table of events."""
_MISSED = 60


def render(session: Session, composed: str | None) -> str:
    """The page as text.

    Args:
        session: what was heard.
        composed: what lies behind the clips of a recording that was composed; `None` for any other.

    """
    jinja = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return jinja.get_template("listen.html.j2").render(_context(session, composed))


def _context(session: Session, composed: str | None) -> dict[str, Any]:
    recording, heard, found = session.recording, session.heard, session.score
    marked = _marked(session)
    missed = _missed(session)
    starts = stretches_of(session, marked, missed)
    whole = session.recording.seconds <= _STRETCH * _STRETCHES
    rows = session.sweep
    return {
        "name": recording.path.name,
        "facts": _facts(session),
        "composed": composed is not None,
        "noise": composed,
        "tiles": _tiles(session),
        "keys": _keys(session),
        "overview": overview(heard.low, heard.high, heard.hop, marked, missed),
        "trade": None if found is None else trade(
            [_point(t, s) for t, s in rows], _point(session.settings.threshold, found)
        ),
        "sweep": [_sweep_row(threshold, one) for threshold, one in rows],
        "stretches_title": "Closer" if whole else "Closer: false alarms and misses first",
        "stretches": [_stretch(number, start, session, marked) for number, start in enumerate(starts)],
        "events": [_event_row(one) for one in marked[:_EVENTS]],
        "more": max(0, len(marked) - _EVENTS),
        "scored": found is not None,
        "missed": _missed_line(missed),
        "method": _method(session),
    }  # fmt: skip


def stretches_of(session: Session, marked: Sequence[Marked], missed: Sequence[Label]) -> list[float]:
    """The seconds at which what is drawn begins: all of a short recording, of a long one where something went wrong."""
    seconds = session.recording.seconds
    if seconds <= _STRETCH * _STRETCHES:
        return [i * _STRETCH for i in range(max(1, -int(-seconds // _STRETCH)))]
    alarms = [one.event.seconds for one in marked if one.hit is False]
    misses = [(label.start + label.end) / 2 for label in missed]
    both = [place for pair in zip(alarms, misses, strict=False) for place in pair]
    rest = alarms[len(misses) :] + misses[len(alarms) :]
    wanted = [*both, *rest, *(one.event.seconds for one in marked), 0.0]
    chosen: list[float] = []
    for place in wanted:
        start = min(max(0.0, place - _STRETCH / 2), seconds - _STRETCH)
        if len(chosen) < _STRETCHES and all(abs(start - other) >= _STRETCH for other in chosen):
            chosen.append(start)
    return sorted(chosen)


def _marked(session: Session) -> list[Marked]:
    if session.score is None:
        return [Marked(event, None) for event in session.events]
    pairs = zip(session.events, session.score.matched, strict=True)
    return [Marked(event, label is not None) for event, label in pairs]


def _missed(session: Session) -> list[Label]:
    if session.score is None or session.labels is None:
        return []
    hit = set(session.score.matched)
    return [x for i, x in enumerate(session.labels) if i not in hit and x.word in session.words]


def _facts(session: Session) -> list[tuple[str, str]]:
    recording = session.recording
    channels = "mono" if recording.channels == 1 else f"{recording.channels} channels, averaged"
    resampled = "" if recording.rate == recording.own_rate else f", heard at {recording.rate:,} Hz"
    facts = [("length", clock(recording.seconds)), ("sound", f"{recording.own_rate:,} Hz{resampled}, {channels}")]
    if session.depth:
        facts.append(("network", session.depth))
    return facts


def _tiles(session: Session) -> list[tuple[str, str, str, str]]:
    found, seconds = session.score, session.recording.seconds
    tiles = [("words heard", str(len(session.events)), f"{len(session.events) / seconds * 60:.1f} a minute", "")]
    if found is not None:
        share = found.hits / found.said if found.said else 0.0
        rate = f"{found.alarms_per_hour:,.1f}"
        tiles += [
            ("of the words that were said", f"{found.hits} of {found.said}", f"{share:.1%} of them", ""),
            ("missed", str(found.misses), "", "bad" if found.misses else "good"),
            ("false alarms an hour", rate, f"{found.false_alarms} in all", "bad" if found.false_alarms else "good"),
        ]
    speed = seconds / max(session.seconds, 1e-9)
    tiles.append(("speed", f"{speed:,.0f} times", f"as fast as the recording, {session.seconds:.1f} s", ""))
    return tiles


def _keys(session: Session) -> list[tuple[str, str]]:
    if session.score is None:
        return [("a word was heard", "series-1")]
    return [
        ("a word that was said was heard", "series-3"),
        ("false alarm", "series-5"),
        ("missed (below)", "series-2"),
    ]


def _point(threshold: float, found: Score) -> tuple[float, float, float]:
    return threshold, found.alarms_per_hour, found.misses / found.said if found.said else 0.0


def _sweep_row(threshold: float, found: Score) -> dict[str, str]:
    return {
        "threshold": f"{threshold:.2f}",
        "hits": str(found.hits),
        "misses": str(found.misses),
        "false_alarms": str(found.false_alarms),
        "per_hour": f"{found.alarms_per_hour:,.1f}",
    }


@torch.no_grad()
def _stretch(number: int, start: float, session: Session, marked: Sequence[Marked]) -> dict[str, Any]:
    heard, recording = session.heard, session.recording
    sound = recording.section(start, _STRETCH)
    first = round(start / heard.hop)
    shown = session.smooth[first : first + round(_STRETCH / heard.hop) + 1]
    settings = FeatureSettings(
        rate=recording.rate, window=_power_of_two(recording.rate // 40), hop=max(1, recording.rate // 100), mels=40
    )
    features = Features(settings)
    least = settings.window
    padded = torch.nn.functional.pad(torch.from_numpy(sound), (0, max(0, least - len(sound))))
    decibels = features(padded[None])[0, 0].numpy()
    picture, words = stretch(
        number, start, sound, recording.rate, decibels, shown, heard.hop, session.classes,
        session.settings.threshold, marked, session.labels or [],
    )  # fmt: skip
    return {"title": f"From {clock(start)}", "picture": picture, "words": words}


def _power_of_two(least: int) -> int:
    return 1 << max(4, (least - 1).bit_length())


def _event_row(one: Marked) -> dict[str, str]:
    verdict = "" if one.hit is None else "said" if one.hit else "false alarm"
    event = one.event
    return {"time": clock(event.seconds), "word": event.word, "score": f"{event.score:.2f}", "verdict": verdict}


def _missed_line(missed: Sequence[Label]) -> str:
    shown = ", ".join(f"{x.word} at {clock(x.start)}" for x in missed[:_MISSED])
    return shown + (f", and {len(missed) - _MISSED} more" if len(missed) > _MISSED else "")


def _method(session: Session) -> list[tuple[str, str]]:
    settings = session.settings
    rows = [
        (
            "window",
            f"{session.window:g} s, a new one every {session.heard.hop:g} s; a time is the middle of its window",
        ),
        ("smoothing", f"mean over {settings.smoothing:g} s"),
        ("threshold", f"{settings.threshold:g}; the likeliest class must be a word and reach it"),
        ("refractory time", f"{settings.refractory:g} s after a word none is heard"),
        ("silence", f"windows under {settings.quiet:g} dB of full scale hold no word"),
        ("latency", f"a word is known {session.latency:.2f} s after its middle"),
    ]
    if session.score is not None:
        rows.append(("verdict", "heard where it was said, give or take 0.25 s; each label counts once"))
        others = sorted({x.word for x in session.labels or []} - set(session.words))
        if others:
            rows.append(("said, and no word of the network", ", ".join(others)))
    return rows

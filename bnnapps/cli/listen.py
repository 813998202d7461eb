"""How `bnnapps listen` prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from bnnapps.text import terminal

_EVENTS = 30


def show(found: Mapping[str, Any], out: Path) -> None:
    """The words, what they are worth where that is known, and where the page is."""
    events = found["events"]
    if events:
        table = Table(pad_edge=False, box=None, header_style="bold")
        for column in ("seconds", "word", "score"):
            table.add_column(column, justify="left" if column == "word" else "right")
        for event in events[:_EVENTS]:
            table.add_row(f"{event['time']:.2f}", event["word"], f"{event['score']:.2f}")
        terminal().print(table)
        if len(events) > _EVENTS:
            print(f"and {len(events) - _EVENTS} more in {out / 'events.csv'}")
    print(f"{len(events)} words heard in {found['seconds']:.1f} s of sound, in {found['heard_in']:.1f} s")
    if "score" in found:
        score = found["score"]
        print(
            f"{score['hits']} of {score['said']} words that were said, {score['misses']} missed, "
            f"{score['false_alarms']} false alarms: {score['false_alarms_per_hour']:.1f} an hour"
        )
    print(f"Report: {out / 'listen.html'}")

"""The command `bnnapps listen` for a run of keywords."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from bnnapps.errors import UsageError
from bnnapps.plugins.keywords.clips import Spoken
from bnnapps.plugins.keywords.hearing import Hearing
from bnnapps.plugins.keywords.listening.compose import background_of, compose
from bnnapps.plugins.keywords.listening.page import render
from bnnapps.plugins.keywords.listening.pictures import clock
from bnnapps.plugins.keywords.listening.recording import Recording
from bnnapps.plugins.keywords.listening.scoring import Label, read_labels, write_labels
from bnnapps.plugins.keywords.listening.session import listen, write_session
from bnnapps.plugins.keywords.model import depths_of
from bnnapps.training.folder import write_text
from bnnapps.training.listening import Listening

_EVERY = 30.0
"""Seconds between two lines about the progress, where nobody sees a bar."""


def hear_recording(
    model: nn.Module,
    hearing: Hearing,
    classes: Sequence[str],
    seconds: float,
    prepared: Callable[[], Spoken],
    settings: Listening,
    out: Path,
    console: Console,
) -> dict[str, Any]:
    """Hear a recording with a run's network; everything that is found goes into a folder.

    Args:
        model: the network.
        hearing: from sound to what it takes.
        classes: its words.
        seconds: that it hears at a time.
        prepared: gives the run's data, which a recording is composed of.
        settings: the recording, and how it is heard.
        out: the folder.
        console: for progress.

    Raises:
        UsageError: `settings.layers` is no depth of the network.
        DataError: recording, labels or data cannot be used.

    """
    depth, network = _at_depth(model, settings.layers)
    rate = hearing.features.settings.rate
    labels: list[Label] | None = None
    behind: str | None = None
    if settings.wav is not None:
        recording = Recording(settings.wav, rate)
        labels = None if settings.labels is None else read_labels(settings.labels)
        _check_labels(labels, recording, settings)
    else:
        assert settings.compose is not None
        data = prepared()
        out.mkdir(parents=True, exist_ok=True)
        path = out / "recording.wav"
        labels = compose(path, data.dev, data.classes, data.noises, settings.compose, settings.seed, settings.noise)
        write_text(out / "labels.txt", write_labels(labels))
        behind = background_of(data.noises, settings.noise)
        recording = Recording(path, rate)
    out.mkdir(parents=True, exist_ok=True)
    with _progress(console, recording, settings.hop) as tell:
        window = round(seconds * rate)
        session = listen(network, hearing, recording, classes, window, settings, labels, depth, tell)
    write_session(session, out)
    write_text(out / "listen.html", render(session, behind))
    return session.to_dict()


def _at_depth(model: nn.Module, layers: int | None) -> tuple[str, nn.Module]:
    depths = {about: network for _, about, network in depths_of(model.eval())}
    if layers is None:
        return next(iter(depths.items()))
    counts = [about.partition(" ")[0] for about in depths if about]
    if str(layers) not in counts:
        known = f"was trained with {', '.join(counts)}" if counts else "has one depth alone"
        raise UsageError(f"--layers is {layers}, and the network {known}")
    return next((about, network) for about, network in depths.items() if about.partition(" ")[0] == str(layers))


def _check_labels(labels: list[Label] | None, recording: Recording, settings: Listening) -> None:
    late = next((x for x in labels or [] if x.start > recording.seconds), None)
    if late is not None:
        raise UsageError(
            f"--labels: {settings.labels} has a word at {late.start:g} s, and {recording.path} lasts "
            f"{recording.seconds:.1f} s: they do not belong together"
        )


@contextmanager
def _progress(console: Console, recording: Recording, hop: float) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, and elsewhere a line every half minute."""
    total, whole = recording.seconds, clock(recording.seconds)
    if console.is_terminal and not console.quiet:
        columns = (TextColumn("heard {task.fields[heard]} of {task.fields[whole]}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=total, heard=clock(0), whole=whole)

            def show(windows: int) -> None:
                done = min(total, bar.tasks[0].completed + windows * hop)
                bar.update(task, completed=done, heard=clock(done))

            yield show
        return
    done, shown = 0.0, time.monotonic()

    def tell(windows: int) -> None:
        nonlocal done, shown
        done = min(total, done + windows * hop)
        if time.monotonic() - shown >= _EVERY:
            shown = time.monotonic()
            console.print(f"heard {clock(done)} of {whole}", highlight=False)

    yield tell

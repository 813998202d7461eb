"""Words in long recordings."""

from __future__ import annotations

import io
import itertools
import json
import math
import tracemalloc
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from bnnapps.cli.app import listen as command
from bnnapps.errors import BnnappsError, DataError, UsageError
from bnnapps.plugins.keywords.clips import SILENCE, UNKNOWN, Clips
from bnnapps.plugins.keywords.listening.compose import compose
from bnnapps.plugins.keywords.listening.events import Event, events_of, smoothed
from bnnapps.plugins.keywords.listening.posteriors import hear, windows
from bnnapps.plugins.keywords.listening.recording import Recording
from bnnapps.plugins.keywords.listening.scoring import Label, read_labels, score, write_labels
from bnnapps.plugins.keywords.waves import WaveWriter, at_rate, read_wave, write_wave
from bnnapps.training.listening import Listening

RATE = 4000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize(("own", "wanted"), [(16_000, 16_000), (8000, 16_000), (44_100, 16_000), (48_000, 16_000), (11_025, 4000)])  # fmt: skip  # noqa: E501
def test_pieces_are_the_whole_at_another_rate(tmp_path: Path, own: int, wanted: int) -> None:
    write_wave(tmp_path / "a.wav", noise(3 * own + 17), own)
    whole = at_rate(read_wave(tmp_path / "a.wav")[0], own, wanted)
    recording = Recording(tmp_path / "a.wav", wanted)
    found = np.concatenate(list(recording.blocks(seconds=0.7)))
    assert recording.samples == len(whole) == len(found)
    np.testing.assert_allclose(found, whole, atol=1e-6)
    part = recording.section(1.0, 0.5)
    step = own // math.gcd(own, wanted)  # frames of the file after which a sample of either rate begins
    first = step * round(own / step) * wanted // own
    np.testing.assert_allclose(part, whole[first:][: len(part)], atol=1e-6)
    assert len(recording.section(9.0, 1.0)) == 0


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([noise(500), noise(500, 1)], axis=1)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(both * 32768).astype("<i2").tobytes())
    (found,) = Recording(tmp_path / "a.wav", RATE).blocks()
    np.testing.assert_allclose(found, both.mean(axis=1), atol=1e-4)


@pytest.mark.parametrize("samples", [1, 100, 399, 400, 401, 5000])
def test_windows_have_their_middle_at_multiples_of_the_hop(tmp_path: Path, samples: int) -> None:
    write_wave(tmp_path / "a.wav", noise(samples), RATE)
    sound = read_wave(tmp_path / "a.wav")[0]
    padded = np.pad(sound, (50, 200))
    rows, hops = zip(*((a.copy(), b.copy()) for a, b in windows(Recording(tmp_path / "a.wav", RATE), 100, 7)), strict=True)  # fmt: skip  # noqa: E501
    found = np.concatenate(rows)
    assert len(found) == 1 + (samples - 1) // 7
    for n in (0, len(found) // 2, len(found) - 1):
        np.testing.assert_array_equal(found[n], padded[7 * n :][:100])
        np.testing.assert_array_equal(np.concatenate(hops)[n], padded[50 + 7 * n :][:7])


class Loud(nn.Module):
    """Two classes; the second is as likely as the window is loud."""

    def forward(self, pictures: Tensor) -> Tensor:
        level = pictures.square().mean(dim=1)
        return torch.stack([torch.zeros_like(level), 400 * level - 2], dim=1)


def test_silence_holds_no_word_and_memory_is_bounded(tmp_path: Path) -> None:
    with WaveWriter(tmp_path / "a.wav", RATE) as file:
        for _ in range(20):
            file.write(np.zeros(60 * RATE, dtype=np.float32))
    recording = Recording(tmp_path / "a.wav", RATE)
    told: list[int] = []
    tracemalloc.start()
    try:
        found = hear(Loud(), nn.Identity(), recording, RATE, RATE // 2, -60.0, told.append)  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12e6 < 4 * recording.samples
    assert sum(told) == len(found.posteriors) == 2400
    assert not found.posteriors.any()
    assert events_of(found.posteriors, ["a", "b"], found.hop, 0.1, 1.0) == []


def test_a_loud_second_is_heard_when_it_is(tmp_path: Path) -> None:
    sound = noise(10 * RATE) * 0.01
    sound[4 * RATE : 5 * RATE] = noise(RATE, 1) * 3
    write_wave(tmp_path / "a.wav", sound, RATE)
    found = hear(Loud(), nn.Identity(), Recording(tmp_path / "a.wav", RATE), RATE, RATE // 10, -90.0)  # type: ignore[arg-type]
    (event,) = events_of(smoothed(found.posteriors, found.hop, 0.5), ["quiet", "loud"], found.hop, 0.9, 1.0)
    assert event.word == "loud"
    assert event.seconds == pytest.approx(4.5, abs=0.25)
    assert found.high[45] > 0.1 > found.high[0]


def test_smoothing_is_a_mean_over_what_is_there() -> None:
    x = np.array([[0.0], [1.0], [0.0], [0.5]], dtype=np.float32)
    np.testing.assert_allclose(smoothed(x, 0.1, 0.2)[:, 0], [0.5, 1 / 3, 0.5, 0.25], rtol=1e-6)
    assert smoothed(x, 0.1, 0.0) is x


def test_events_are_the_peaks_of_runs() -> None:
    rows = [
        [0.9, 0.0, 0.1, 0.0],  # silence
        [0.1, 0.8, 0.1, 0.0],  # a
        [0.0, 0.9, 0.1, 0.0],  # a, its highest
        [0.0, 0.1, 0.9, 0.0],  # b, too soon after
        [0.0, 0.5, 0.5, 0.0],  # nothing is sure
        [0.0, 0.0, 0.0, 1.0],  # an unknown word
        [0.0, 0.0, 0.8, 0.2],  # b
    ]
    found = events_of(np.array(rows, dtype=np.float32), [SILENCE, "a", "b", UNKNOWN], 0.5, 0.7, 1.0)
    assert found == [Event(1.0, "a", pytest.approx(0.9)), Event(3.0, "b", pytest.approx(0.8))]


def test_events_are_compared_with_labels() -> None:
    labels = [Label(1.0, 2.0, "a"), Label(3.0, 4.0, "b"), Label(5.0, 6.0, "c"), Label(7.0, 8.0, "other")]
    events = [
        Event(0.8, "a", 0.9),  # within the tolerance
        Event(1.5, "a", 0.9),  # the same word again
        Event(3.5, "a", 0.9),  # another word than was said
        Event(5.5, "c", 0.9),
        Event(7.5, "b", 0.9),  # a word that the network does not know was said
    ]
    found = score(events, labels, ["a", "b", "c"], 1800.0)
    assert (found.said, found.hits, found.misses, found.false_alarms) == (3, 2, 1, 3)
    assert found.alarms_per_hour == 6.0
    assert found.matched == (0, None, None, 2, None)
    assert score([Event(0.7, "a", 1.0)], labels, ["a"], 3600.0).hits == 0


def test_labels_are_read_as_they_are_written(tmp_path: Path) -> None:
    labels = [Label(0.5, 1.25, "yes"), Label(2.0, 2.0, "no")]
    (tmp_path / "a.txt").write_text(write_labels(labels) + "\\\t100\t200\n\n", encoding="utf-8")
    assert read_labels(tmp_path / "a.txt") == labels


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1.0 2.0 yes\n", r"line 1: '1\.0 2\.0 yes' is no label; give START<tab>END<tab>WORD"),
        ("0\t1\tyes\n2\t1\tno\n", r"line 2: .* is no label"),
        ("0\tnan\tyes\n", r"line 1: .* is no label"),
        ("\n", r"has no labels"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=says):
        read_labels(tmp_path / "a.txt")


def clips(count: int = 6) -> Clips:
    names = [None] * count
    sounds = {i: np.full(RATE, 1000 * (i + 1), dtype=np.int16) for i in range(count - 1)}  # the last one is silence
    return Clips(names, np.array([0, 1, 0, 1, 2, 3][:count]), RATE, RATE, sounds=sounds)  # type: ignore[arg-type]


def test_a_recording_is_composed_of_clips(tmp_path: Path) -> None:
    classes = ["a", "b", UNKNOWN, SILENCE]
    labels = compose(tmp_path / "1.wav", clips(), classes, (), 40.0, 5, -50.0)
    compose(tmp_path / "2.wav", clips(), classes, (), 40.0, 5, -50.0)
    compose(tmp_path / "3.wav", clips(), classes, (noise(2 * RATE),), 40.0, 6, -50.0)
    assert (tmp_path / "1.wav").read_bytes() == (tmp_path / "2.wav").read_bytes() != (tmp_path / "3.wav").read_bytes()
    sound, rate = read_wave(tmp_path / "1.wav")
    assert (len(sound), rate) == (40 * RATE, RATE)
    assert len(labels) >= 8
    assert sorted(label.word for label in labels[:5]) == ["_unknown_", "a", "a", "b", "b"]  # each clip comes once
    for before, after in itertools.pairwise(labels):
        assert 0.5 <= after.start - before.end <= 4.0
    for label in labels:
        inside = sound[round(label.start * RATE) : round(label.end * RATE)]
        assert abs(inside[100:-100]).mean() > 0.02
        assert abs(sound[max(0, round(label.start * RATE) - 1000) : round(label.start * RATE)]).mean() < 0.01


def test_the_noise_is_as_loud_as_it_was_asked_for(tmp_path: Path) -> None:
    for level, expected in ((-40.0, 0.01), (-float("inf"), 0.0)):
        labels = compose(tmp_path / "a.wav", clips(), ["a", "b", UNKNOWN, SILENCE], (), 20.0, 1, level)
        gap = read_wave(tmp_path / "a.wav")[0][: round(labels[0].start * RATE)]
        assert gap.std() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("some", "seconds", "says"), [(clips(), 4.9, "give at least 5 seconds"), (clips(0), 60.0, "has no clip of a word")])  # fmt: skip  # noqa: E501
def test_what_nothing_can_be_composed_of(tmp_path: Path, some: Clips, seconds: float, says: str) -> None:
    with pytest.raises(DataError, match=says):
        compose(tmp_path / "a.wav", some, ["a", "b", UNKNOWN, SILENCE], (), seconds, 0, -50.0)
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"wav": None}, "give either --wav FILE, or --compose SECONDS"),
        ({"compose": 5.0}, "give either --wav FILE, or --compose SECONDS"),
        ({"wav": None, "compose": -1.0}, "--compose is -1: give the seconds"),
        ({"wav": None, "compose": 60.0, "labels": Path("a.txt")}, "--labels says what is said in --wav"),
        ({"hop": 0.0}, "--hop is 0: give seconds between"),
        ({"threshold": 70.0}, "--threshold is 70: a probability"),
        ({"smoothing": -1.0}, "--smoothing is -1: give seconds"),
        ({"refractory": float("nan")}, "--refractory is nan: give seconds"),
        ({"quiet": 3.0}, "--quiet is 3: give decibels"),
        ({"noise": float("nan")}, "--noise is nan: give decibels"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_settings_that_make_no_sense(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Listening(**({"wav": Path("a.wav")} | given))


def run(folder: Path, capsys: pytest.CaptureFixture[str], **given: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "wav": None,
        "compose": None,
        "labels": None,
        "hop": 0.25,
        "threshold": 0.15,
        "smoothing": 0.5,
        "refractory": 1.0,
        "quiet": -60.0,
        "layers": None,
        "seed": 0,
        "noise": -50.0,
        "out": None,
        "as_json": True,
    }
    capsys.readouterr()
    command(folder, **(defaults | given))
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_run_hears_a_recording(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(trained, capsys, compose=12.0, out=tmp_path / "heard", layers=1)
    assert found["depth"] == "1 of 2 layers"
    assert found["score"]["said"] == len(read_labels(tmp_path / "heard" / "labels.txt"))
    assert found["score"]["hits"] + found["score"]["misses"] == found["score"]["said"]
    page = (tmp_path / "heard" / "listen.html").read_text(encoding="utf-8")
    assert "Other thresholds" in page
    assert "was composed of the run's own dev clips" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    wav = tmp_path / "heard" / "recording.wav"
    again = run(trained, capsys, wav=wav, labels=tmp_path / "heard" / "labels.txt", layers=1)
    assert again["events"] == found["events"]
    assert again["folder"] == str(trained / "listen" / "recording")
    unlabelled = run(trained, capsys, wav=wav, out=tmp_path / "plain", threshold=1.0)
    assert unlabelled["events"] == []
    assert "score" not in unlabelled
    assert "None." in (tmp_path / "plain" / "listen.html").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="--layers is 7, and the network was trained with 2, 1"):
        run(trained, capsys, wav=wav, layers=7)
    (tmp_path / "late.txt").write_text("99\t100\tyes\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"has a word at 99 s, and .* lasts 12\.0 s"):
        run(trained, capsys, wav=wav, labels=tmp_path / "late.txt")


HEAD = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"no header, only samples" * 10, "has no WAV header"),
        (HEAD + b"\0\0\0\0", "holds no samples"),
        (HEAD + b"\x10\0\0\0abcd", "is truncated"),
    ],
)
def test_recordings_that_cannot_be_heard(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BnnappsError, match=says) as problem:
        Recording(path, 16_000)
    assert len(str(problem.value).splitlines()) == 1


def test_another_task_hears_nothing() -> None:
    from toy_task import ToyTask

    task = ToyTask(SimpleNamespace(task="toy"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'toy' hears nothing: `bnnapps listen` takes a run of keywords"):
        task.listen(nn.Identity(), Listening(Path("a")), Path("b"), Console(file=io.StringIO()))

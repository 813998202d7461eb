"""Words spoken by eSpeak NG: an optional extra, because eSpeak NG is GPL-3.0 or later."""

from __future__ import annotations

import importlib
import importlib.util
import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnnapps.errors import DataError, MissingExtraError
from bnnapps.plugins.keywords.clips import Clips, Spoken
from bnnapps.plugins.keywords.synthesis import in_clip
from bnnapps.plugins.keywords.synthetic import DEV, TRAIN
from bnnapps.plugins.keywords.waves import Samples, at_rate

PACKAGE = "espeakng_loader"
ACCENTS = (
    "en-us",
    "en-us-nyc",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
)
"""`en` is British."""
_MACHINES = ("robo", "demonic", "croak", "whisper", "tweaky", "klatt6")
"""Variants whose names hold one of these are no human voices."""
_DEV_VOICES = 5
"""Every so many voices one is heard in the dev set alone."""
_PACE, _PITCH, _RANGE = (110, 220), (20, 80), (20, 80)
"""Words a minute, and eSpeak's own scales of pitch and its range, from 0 to 100."""

Job = tuple[str, str, int, int, int, int]


def espeak_words(words: Sequence[str], train: int | None, dev: int | None, seed: int, rate: int, seconds: float) -> Spoken:  # fmt: skip  # noqa: E501
    """Clips of words, each speaker saying all of them in turn; no voice of the dev set is in the training set.

    A speaker is one of eSpeak's variants with an English accent, a pace and a pitch, all from the seed. The same seed
    gives the same clips with the same version of eSpeak NG.

    Args:
        words: what is said.
        train: clips; `None`: 1200.
        dev: the same of the dev set; `None`: 300.
        seed: of voices, and of the noise in them.
        rate: samples a second.
        seconds: of a clip.

    Raises:
        MissingExtraError: the package `espeakng-loader` is not installed.
        DataError: eSpeak NG cannot speak.

    """
    library, data = _installed()
    voices = _voices(data, seed)
    parts = []
    for number, size in enumerate((TRAIN if train is None else train, DEV if dev is None else dev)):
        jobs = [_job(words, voices[number], seed, number, i) for i in range(size)]
        clips = Clips([None] * size, np.arange(size) % len(words), rate, round(seconds * rate))
        own, sounds = _spoken(library, data, jobs)
        for i, sound in enumerate(sounds):
            rng = np.random.default_rng((seed, number, i))
            clip = in_clip(at_rate(_trimmed(sound, jobs[i][0]), own, rate), rng, seconds, rate)
            clips.sounds[i] = np.round(clip * 32767).astype(np.int16)
        parts.append(clips)
    title = f"{len(words)} words spoken by eSpeak NG (generated, seed {seed})"
    return Spoken(parts[0], parts[1], tuple(words), title)


def _installed() -> tuple[str, str]:
    """The paths of the library and of its data."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise MissingExtraError("espeakng-loader", "speech", "data.source 'espeak'")
    package: Any = importlib.import_module(PACKAGE)
    try:
        return str(package.get_library_path()), str(package.get_data_path())
    except RuntimeError as problem:
        raise DataError(f"the package espeakng-loader is damaged ({problem}): install it again") from None


def _voices(data: str, seed: int) -> tuple[list[str], list[str]]:
    """The variants for training and those for the dev set."""
    names = sorted(path.name for path in (Path(data) / "voices" / "!v").iterdir() if path.is_file())
    human = [name for name in names if " " not in name and not any(part in name.lower() for part in _MACHINES)]
    if len(human) < _DEV_VOICES:
        raise DataError(f"{data} has {len(human)} voices: install the package espeakng-loader again")
    order = np.random.default_rng((seed, 2)).permutation(len(human))
    return (
        [human[i] for place, i in enumerate(order) if place % _DEV_VOICES],
        [human[i] for place, i in enumerate(order) if place % _DEV_VOICES == 0],
    )


def _job(words: Sequence[str], voices: Sequence[str], seed: int, number: int, index: int) -> Job:
    """What is said for a clip, and how."""
    speaker, word = divmod(index, len(words))
    rng = np.random.default_rng((seed, number + 3, speaker))
    voice = f"{ACCENTS[int(rng.integers(len(ACCENTS)))]}+{voices[speaker % len(voices)]}"
    pace, pitch, spread = (int(rng.integers(low, high)) for low, high in (_PACE, _PITCH, _RANGE))
    return words[word], voice, pace, pitch, spread, (seed * 1_000_003 + index) % 2**31


def _spoken(library: str, data: str, jobs: Sequence[Job]) -> tuple[int, list[Samples]]:
    """The rate, and the sound of each job, from a process of its own."""
    wanted = json.dumps({"library": library, "data": data, "jobs": jobs}).encode()
    child = Path(__file__).with_name("espeak_child.py")
    done = subprocess.run([sys.executable, "-I", str(child)], input=wanted, capture_output=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise DataError(f"eSpeak NG does not speak: {lines[-1] if lines else f'it ended with {done.returncode}'}")
    (rate,) = struct.unpack_from("<I", done.stdout)
    sounds: list[Samples] = []
    at = 4
    for _ in jobs:
        (count,) = struct.unpack_from("<I", done.stdout, at)
        whole = np.frombuffer(done.stdout, dtype="<i2", count=count, offset=at + 4)
        sounds.append(whole.astype(np.float32) / np.float32(32768))
        at += 4 + 2 * count
    return rate, sounds


def _trimmed(sound: Samples, word: str) -> NDArray[np.float32]:
    """Without the silence at both ends, with a peak of 0.5."""
    loud = np.flatnonzero(np.abs(sound) > 0.01)
    if not len(loud):
        raise DataError(f"eSpeak NG says nothing for {word!r}: give words that can be spoken")
    found: Samples = sound[loud[0] : loud[-1] + 1]
    return found * np.float32(0.5 / np.abs(found).max())

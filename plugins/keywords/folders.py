"""Folders of words: Speech Commands (v0.01, v0.02) with its official lists, and any `WORD/*.wav`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.clips import SILENCE, UNKNOWN, Clips, Spoken
from bnnapps.plugins.keywords.config import SoundData
from bnnapps.plugins.keywords.phones import WORDS
from bnnapps.plugins.keywords.waves import Samples, at_rate, read_wave

COMMANDS = tuple(WORDS)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_REST = ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow")
_LATER = ("backward", "follow", "forward", "learn", "visual")
OFFICIAL: dict[int, tuple[str, ...]] = {
    12: COMMANDS,
    20: COMMANDS + DIGITS,
    30: COMMANDS + DIGITS + _REST,
    35: COMMANDS + DIGITS + _REST + _LATER,
}
"""The words of each set (Warden, Speech Commands, 2018); that of 12 classes adds silence and unknown words."""
NOISE = "_background_noise_"
LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
_HELD_OUT = 0.1
"""Without lists, such a share of the speakers is the validation set, and another the testing set."""


@dataclass(frozen=True)
class _Files:
    """Names relative to the root, by word, with the list that each belongs to."""

    words: dict[str, list[str]]
    parts: dict[str, str]
    notes: list[str]


def load_folders(root: Path, settings: SoundData, seed: int) -> Spoken:
    """Words in folders.

    Unknown words and silence are drawn with the seed, as many as the settings say.

    Raises:
        DataError: no such folder, a word that has no folder, or an empty set.

    """
    files = _files(root)
    official = settings.source == "speech_commands"
    words = OFFICIAL[settings.classes] if official else tuple(settings.words or sorted(files.words))
    missing = [word for word in words if word not in files.words]
    if missing:
        where = f"data.classes is {settings.classes}" if official else "data.words"
        raise DataError(f"{root} has no folder '{missing[0]}' with wav files, one of the {len(words)} words ({where})")
    others = [word for word in files.words if word not in words]
    extra = (official and settings.classes == 12) or (not official and settings.words is not None)
    unknown = extra and settings.unknown > 0 and bool(others)
    silence = official and settings.classes == 12 and settings.silence > 0
    classes = (*words, *([UNKNOWN] if unknown else []), *([SILENCE] if silence else []))
    notes = list(files.notes)
    if others and not unknown:
        count = sum(len(files.words[word]) for word in others)
        notes.append(f"{count} clips of other words are left out: {', '.join(others)}")

    def part(held_out: bool) -> Clips:
        names: list[Path | None] = []
        labels: list[int] = []

        def take(word: str) -> list[Path]:
            wanted = (settings.evaluate_on,) if held_out else ("training",)
            return [root / name for name in files.words[word] if files.parts.get(name, "training") in wanted]

        for label, word in enumerate(words):
            chosen = take(word)
            names += chosen
            labels += [label] * len(chosen)
        count = len(names)
        rng = np.random.default_rng((seed, held_out))
        if unknown:
            pool = [path for word in others for path in take(word)]
            picked = rng.permutation(len(pool))[: math.ceil(settings.unknown * count)]
            names += [pool[i] for i in sorted(picked)]
            labels += [len(words)] * len(picked)
        if silence:
            quiet = math.ceil(settings.silence * count)
            names += [None] * quiet
            labels += [len(classes) - 1] * quiet
        if not count:
            which = f"{settings.evaluate_on} set" if held_out else "training set"
            raise DataError(f"{root}: the {which} has no clip of the {len(words)} words")
        rate = settings.features.rate
        samples = round(settings.seconds * rate)
        return Clips(names, np.array(labels, dtype=np.int64), rate, samples, settings.longest, settings.cache)

    title = f"Speech Commands, {len(classes)} classes" if official else f"{len(classes)} words of {root.name}"
    noises = background(root, settings.features.rate, round(settings.seconds * settings.features.rate))
    return Spoken(part(False), part(True), classes, f"{title}, {settings.evaluate_on} set", noises, tuple(notes))


def background(root: Path, rate: int, samples: int) -> tuple[Samples, ...]:
    """The recordings of background noise that are longer than a clip."""
    found = []
    for path in sorted((root / NOISE).glob("*.wav")):
        sound, own = read_wave(path)
        sound = at_rate(sound, own, rate)
        if len(sound) > samples:
            found.append(sound)
    return tuple(found)


def _files(root: Path) -> _Files:
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    words: dict[str, list[str]] = {}
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith((".", "_"))):
        names = [f"{folder.name}/{path.name}" for path in sorted(folder.glob("*.wav"))]
        if names:
            words[folder.name] = names
    if len(words) < 2:
        raise DataError(f"{root} has wav files of {len(words)} words in folders: at least two are needed, WORD/*.wav")
    parts, notes = _parts(root, [name for names in words.values() for name in names])
    return _Files(words, parts, notes)


def _parts(root: Path, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Which clips are for validation and which for testing, from the lists or from the names of speakers."""
    there = set(names)
    parts: dict[str, str] = {}
    notes = []
    listed = False
    for part, file in LISTS.items():
        path = root / file
        if not path.is_file():
            continue
        listed = True
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as problem:
            raise DataError(f"{path} cannot be read as a list of files: {problem}") from None
        absent = [line for line in lines if line not in there]
        if absent:
            notes.append(f"{file} names {len(absent)} of {len(lines)} files that are not there, such as {absent[0]}")
        for line in lines:
            if line in there:
                if line in parts:
                    raise DataError(f"{root}: {line} is in both lists, {' and '.join(LISTS.values())}")
                parts[line] = part
    if not listed:
        notes.append("no official lists: a tenth of the speakers is the validation set, another the testing set")
        for name in names:
            share = speaker_share(name)
            if share < 2 * _HELD_OUT:
                parts[name] = "validation" if share < _HELD_OUT else "testing"
    return parts, notes


def speaker_share(name: str) -> float:
    """A number in [0, 1) that follows from who speaks: of the file's name what stands before `_nohash_`."""
    speaker = name.rpartition("/")[2].removesuffix(".wav").partition("_nohash_")[0]
    return int.from_bytes(hashlib.sha256(speaker.encode()).digest()[:8], "big") / 2**64

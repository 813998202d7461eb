"""Sets of clips, in files or in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.waves import Samples, at_rate, read_wave, wave_info

SILENCE, UNKNOWN = "_silence_", "_unknown_"


def fitted(sound: Samples, samples: int) -> Samples:
    """So many samples around the middle: shorter sound gets zeros on both sides, longer loses both ends."""
    missing = samples - len(sound)
    if missing >= 0:
        return np.pad(sound, (missing // 2, missing - missing // 2))
    return sound[-missing // 2 :][:samples]


def read_clip(path: Path, rate: int, longest: float) -> Samples:
    """The sound of a file at a rate.

    Raises:
        DataError: what `read_wave` refuses, a file without samples, or one that lasts longer than `longest` seconds.

    """
    info = wave_info(path)
    if info.frames == 0:
        raise DataError(f"{path} holds no samples: remove it")
    if info.seconds > longest:
        raise DataError(
            f"{path} lasts {info.seconds:.0f} s, and a clip of a word at most {longest:g} s (data.longest): cut it, or "
            "remove it"
        )
    samples, found = read_wave(path)
    return at_rate(samples, found, rate)


@dataclass
class Clips:
    """Clips with labels.

    Attributes:
        names: of the files, or what stands for them; `None` is silence, which is cut from the background noise.
        labels: (N,), places in the tuple of classes.
        sounds: those in memory, by place.
        rate, samples: of what `sound` gives.
        longest: seconds of a file.
        keep: whether what is read stays in memory.

    """

    names: list[Path | None]
    labels: NDArray[np.int64]
    rate: int
    samples: int
    longest: float = 60.0
    keep: bool = True
    sounds: dict[int, NDArray[np.int16]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def sound(self, index: int) -> Samples:
        """A clip, float32 (samples,); silence is zeros.

        Raises:
            DataError: the file cannot be read.

        """
        if index in self.sounds:
            return _floats(self.sounds[index])
        name = self.names[index]
        if name is None:
            return np.zeros(self.samples, dtype=np.float32)
        found = fitted(read_clip(name, self.rate, self.longest), self.samples)
        whole = np.clip(np.round(found * 32768), -32768, 32767).astype(np.int16)
        if self.keep:
            self.sounds[index] = whole
        return _floats(whole)

    def is_silence(self, index: int) -> bool:
        """Whether the clip is one of background noise or of nothing."""
        return self.names[index] is None and index not in self.sounds

    def part(self, indices: Sequence[int]) -> Clips:
        """Some of the clips."""
        return Clips(
            [self.names[i] for i in indices],
            self.labels[list(indices)],
            self.rate,
            self.samples,
            self.longest,
            self.keep,
            {new: self.sounds[old] for new, old in enumerate(indices) if old in self.sounds},
        )


def _floats(whole: NDArray[np.int16]) -> Samples:
    return whole.astype(np.float32) / np.float32(32768)


@dataclass(frozen=True)
class Spoken:
    """Clips for training and evaluation.

    Attributes:
        train, dev: the clips.
        classes: their names.
        description: of the source, one line.
        noises: sound to mix in, each longer than a clip.
        notes: what a user should know, such as files that a list names and that are not there.

    """

    train: Clips
    dev: Clips
    classes: tuple[str, ...]
    description: str
    noises: tuple[Samples, ...] = ()
    notes: tuple[str, ...] = ()


def drawn(clips: Clips, size: int | None, seed: int) -> Clips:
    """So many of the clips, chosen by the seed, in their order; all of them for `None`."""
    if size is None or size >= len(clips):
        return clips
    chosen = np.sort(np.random.default_rng(seed).permutation(len(clips))[:size])
    return clips.part([int(i) for i in chosen])

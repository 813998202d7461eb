"""Recordings with known words, composed of clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.augment import noise_of
from bnnapps.plugins.keywords.clips import SILENCE, Clips
from bnnapps.plugins.keywords.listening.scoring import Label
from bnnapps.plugins.keywords.waves import Samples, WaveWriter

_GAPS = (0.5, 4.0)
"""Seconds between two clips: uniformly between these."""
_BACKGROUND = 0.1
"""Background recordings are multiplied by this, where the data has some."""
_FADE = 0.01
"""Seconds over which a clip comes and goes."""


def compose(path: Path, clips: Clips, classes: Sequence[str], noises: Sequence[Samples], seconds: float, seed: int, noise: float) -> list[Label]:  # fmt: skip  # noqa: E501
    """Write a recording of a length: clips in a random order, gaps of 0.5 to 4 s between them, noise behind all.

    Every clip comes once before one comes again. Clips of silence are left out.

    Args:
        path: of the WAV file, 16 bits.
        clips: of the words.
        classes: their names.
        noises: recordings to mix in, each longer than a clip.
        seconds: length of the recording.
        seed: of order, gaps and noise.
        noise: decibels of full scale of the white noise behind everything; minus infinity for none.

    Returns:
        What is said, from the beginning to the end of each clip.

    Raises:
        DataError: no clip of a word, or a length in which none has room.

    """
    chosen = [i for i, label in enumerate(clips.labels) if classes[int(label)] != SILENCE]
    total = round(seconds * clips.rate)
    if not chosen:
        raise DataError("--compose: the dev set has no clip of a word")
    if total < clips.samples + round(_GAPS[1] * clips.rate):
        least = clips.samples / clips.rate + _GAPS[1]
        raise DataError(f"--compose {seconds:g}: give at least {least:g} seconds, so that a clip has room")
    labels: list[Label] = []
    with WaveWriter(path, clips.rate) as file:
        for piece, index in _pieces(clips, chosen, total, seed):
            if index is not None:
                start = file.frames / clips.rate
                labels.append(Label(start, start + len(piece) / clips.rate, classes[int(clips.labels[index])]))
            rng = np.random.default_rng((seed, 1, file.frames))
            behind = np.float32(10 ** (noise / 20)) * rng.standard_normal(len(piece), dtype=np.float32)
            if noises:
                behind += _BACKGROUND * _tiled(noises, len(piece), rng)
            file.write(piece + behind)
    return labels


def background_of(noises: Sequence[Samples], noise: float) -> str:
    """What lies behind the clips, in words."""
    white = f"white noise of {noise:.0f} dB" if noise > -np.inf else "nothing"
    return f"{white} and {len(noises)} background recordings" if noises else white


def _pieces(clips: Clips, chosen: Sequence[int], total: int, seed: int) -> Iterator[tuple[Samples, int | None]]:
    """Gaps and clips in turn, `total` samples in all."""
    rng = np.random.default_rng((seed, 0))
    order: list[int] = []
    done = 0
    fade = max(1, round(_FADE * clips.rate))
    ramp = np.minimum(1, (np.arange(clips.samples) + 1) / fade).astype(np.float32)
    while True:
        gap = round(float(rng.uniform(*_GAPS)) * clips.rate)
        if done + gap + clips.samples > total:
            yield np.zeros(total - done, dtype=np.float32), None
            return
        yield np.zeros(gap, dtype=np.float32), None
        order = order if order else [int(i) for i in rng.permutation(chosen)]
        index = order.pop()
        yield clips.sound(index) * ramp * ramp[::-1], index
        done += gap + clips.samples


def _tiled(noises: Sequence[Samples], samples: int, rng: np.random.Generator) -> Samples:
    """A stretch of one of the noises, repeated where it is too short."""
    noise = noises[int(rng.integers(len(noises)))]
    if len(noise) < samples:
        noise = np.tile(noise, -(-samples // len(noise)))
    return noise_of([noise], samples, 0.0, float(rng.random()))

"""Random changes of clips, from numbers that follow from (seed, epoch, clip) alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnnapps.plugins.keywords.clips import fitted
from bnnapps.plugins.keywords.config import SoundAugment
from bnnapps.plugins.keywords.waves import Samples

DRAWS = 12
"""Numbers that a clip takes."""

Numbers = NDArray[np.float64]


def faster(sound: Samples, factor: float) -> Samples:
    """The sound played `factor` times as fast: sample i is the nearest to `factor * i`, so the pitch changes too."""
    count = max(1, round(len(sound) / factor))
    places = np.minimum((np.arange(count) * factor).astype(np.int64), len(sound) - 1)
    found: Samples = sound[places]
    return found


def moved(sound: Samples, by: int) -> Samples:
    """The sound `by` samples later (earlier if negative), as long as before; zeros fill the gap."""
    found = np.zeros_like(sound)
    if by >= 0:
        found[by:] = sound[: len(sound) - by]
    else:
        found[:by] = sound[-by:]
    return found


def noise_of(noises: Sequence[Samples], samples: int, which: float, where: float) -> Samples:
    """A stretch of one of the noises, chosen by two numbers in [0, 1)."""
    noise = noises[int(which * len(noises))]
    start = int(where * (len(noise) - samples + 1))
    return noise[start : start + samples]


def changed(sound: Samples, settings: SoundAugment, noises: Sequence[Samples], rate: int, numbers: Numbers) -> Samples:
    """Gain, speed, shift and noise, each with its probability (BiFSMN, Qin et al., IJCAI 2022, the code), and hiss.

    Args:
        sound: float32 (samples,).
        settings: how much.
        noises: background recordings, each at least as long; may be empty.
        rate: samples a second.
        numbers: (DRAWS,) in [0, 1).

    """
    if settings.none:
        return sound
    samples = len(sound)
    if numbers[0] < settings.probability:
        low, high = settings.gain
        sound = sound * np.float32(low + (high - low) * numbers[1])
    if numbers[2] < settings.probability:
        sound = fitted(faster(sound, 1 + settings.speed * (2 * numbers[3] - 1)), samples)
    if numbers[4] < settings.probability:
        sound = moved(sound, round(settings.shift * rate * (2 * numbers[5] - 1)))
    if noises and numbers[6] < settings.noise_probability:
        sound = sound + np.float32(settings.noise * numbers[7]) * noise_of(noises, samples, numbers[8], numbers[9])
    return np.clip(hissing(sound, settings, numbers), -1, 1)


def hissing(sound: Samples, settings: SoundAugment, numbers: Numbers) -> Samples:
    """With white noise of standard deviation 10^(level / 20), the level uniform in `settings.white_noise`."""
    if settings.none or settings.white_noise is None:
        return sound
    low, high = settings.white_noise
    level = low + (high - low) * numbers[10]
    noise = np.random.default_rng(int(numbers[11] * 2**53)).standard_normal(len(sound), dtype=np.float32)
    return sound + np.float32(10 ** (level / 20)) * noise


def silent(noises: Sequence[Samples], samples: int, numbers: Numbers) -> Samples:
    """Silence: background noise at a random loudness, or zeros where there is none."""
    if not noises:
        return np.zeros(samples, dtype=np.float32)
    return np.float32(numbers[7]) * noise_of(noises, samples, numbers[8], numbers[9])

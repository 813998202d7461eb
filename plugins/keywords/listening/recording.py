"""Long recordings, read in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.waves import Samples, at_rate, read_wave, wave_info

_BLOCK = 30
"""Seconds that are read at a time."""
_REACH = 7
"""So many samples of the lower rate, to either side, are more than a sample at the other rate is computed from."""


class Recording:
    """A WAV file of any length and rate, heard at the rate of a network; channels are averaged.

    Attributes:
        path: of the file.
        rate: samples a second that are given.
        samples: how many there are at that rate.
        own_rate, channels: of the file.

    Raises:
        DataError: what `wave_info` refuses, or a file without samples.

    """

    def __init__(self, path: Path, rate: int) -> None:
        info = wave_info(path)
        if info.frames == 0:
            raise DataError(f"{path} holds no samples: there is nothing to hear")
        self.path, self.rate, self.own_rate, self.channels = path, rate, info.rate, info.channels
        divisor = math.gcd(info.rate, rate)
        self._down, self._up = info.rate // divisor, rate // divisor
        self._frames = info.frames
        self.samples = -(-info.frames * self._up // self._down)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self._frames / self.own_rate

    def blocks(self, seconds: float = _BLOCK) -> Iterator[Samples]:
        """The sound from its beginning to its end, a piece after the other; the same samples as if it were whole."""
        step = self._down * max(1, round(seconds * self.own_rate / self._down))
        for first in range(0, self._frames, step):
            yield self._resampled(first, min(step, self._frames - first))

    def section(self, start: float, seconds: float) -> Samples:
        """The sound from a second on; shorter where the recording ends, and empty behind its end."""
        first = self._down * max(0, round(start * self.own_rate / self._down))
        count = min(round(seconds * self.own_rate), self._frames - first)
        return self._resampled(first, count) if count > 0 else np.zeros(0, dtype=np.float32)

    def _resampled(self, first: int, count: int) -> Samples:
        """Frames from `first`, a multiple of `_down`, read with their surroundings, which the filter reaches into."""
        if self._up == self._down:
            return read_wave(self.path, first, count)[0]
        reach = self._down * (1 - (-_REACH // min(self._down, self._up)))
        before = min(first, reach)
        sound, _ = read_wave(self.path, first - before, before + count + reach)
        found = at_rate(sound, self.own_rate, self.rate)
        start = before * self._up // self._down
        return found[start : start + -(-count * self._up // self._down)]

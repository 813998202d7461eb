"""What a task is asked that hears a long recording."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from bnnapps.errors import UsageError


@dataclass(frozen=True)
class Listening:
    """How a recording is to be heard; checked when it is made.

    Attributes:
        wav: the recording; or `None`, and `compose` is given.
        compose: seconds of a recording that is composed of the run's dev data.
        labels: what is said in `wav`, as Audacity writes labels.
        seed: of what is composed.
        noise: decibels of full scale of the white noise in what is composed; minus infinity for none.
        hop: seconds between two windows.
        threshold: the smoothed probability from which on a word is heard.
        smoothing: seconds over which probabilities are averaged.
        refractory: seconds after a word in which no other is heard.
        quiet: decibels of full scale; a window whose root mean square is lower holds no word.
        layers: of a network that was trained at several depths.

    Raises:
        UsageError: a value that makes no sense, or none or both of `wav` and `compose`.

    """

    wav: Path | None = None
    compose: float | None = None
    labels: Path | None = None
    seed: int = 0
    hop: float = 0.1
    threshold: float = 0.7
    smoothing: float = 0.5
    refractory: float = 1.0
    quiet: float = -60.0
    layers: int | None = None
    noise: float = -50.0

    @property
    def name(self) -> str:
        """What the folder of the results is called."""
        if self.wav is not None:
            return self.wav.stem
        return f"composed-{self.compose:g}s-seed{self.seed}"

    def __post_init__(self) -> None:
        if (self.wav is None) == (self.compose is None):
            raise UsageError("give either --wav FILE, or --compose SECONDS for a recording of the run's own dev clips")
        if self.labels is not None and self.wav is None:
            raise UsageError("--labels says what is said in --wav; what --compose makes is known")
        if self.compose is not None and not 0 < self.compose < math.inf:
            raise UsageError(f"--compose is {self.compose:g}: give the seconds of the recording")
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}: give a number that is not negative")
        if not 0.005 <= self.hop <= 10:
            raise UsageError(f"--hop is {self.hop:g}: give seconds between 0.005 and 10")
        if not 0 < self.threshold <= 1:
            raise UsageError(f"--threshold is {self.threshold:g}: a probability is above 0 and at most 1")
        for name in ("smoothing", "refractory"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"--{name} is {getattr(self, name):g}: give seconds, 0 for none")
        for name in ("quiet", "noise"):
            if not getattr(self, name) <= 0:
                raise UsageError(f"--{name} is {getattr(self, name):g}: give decibels of full scale, at most 0")

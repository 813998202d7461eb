"""From probabilities over time to words with a time and a score."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnnapps.plugins.keywords.clips import SILENCE, UNKNOWN

Floats = NDArray[np.float32]

_FLAT = 0.005
"""Probabilities that differ by less are as high as each other."""


@dataclass(frozen=True)
class Event:
    """A word that was heard.

    Attributes:
        seconds: when.
        word: which.
        score: the smoothed probability.

    """

    seconds: float
    word: str
    score: float


def smoothed(posteriors: Floats, hop: float, seconds: float) -> Floats:
    """The mean over the windows within `seconds` around each time: y_t = mean(x_{t-h} .. x_{t+h}), h = seconds / 2 hop.

    At the ends the mean is over what is there (Chen et al., Small-footprint keyword spotting using deep neural
    networks, ICASSP 2014, smooth likewise, over the past). Shapes: (T, classes) to the same.
    """
    half = round(seconds / hop / 2)
    if half == 0:
        return posteriors
    sums = np.concatenate([np.zeros((1, posteriors.shape[1])), np.cumsum(posteriors, axis=0, dtype=np.float64)])
    count = len(posteriors)
    stop = np.minimum(np.arange(count) + half + 1, count)
    start = np.maximum(np.arange(count) - half, 0)
    found: Floats = ((sums[stop] - sums[start]) / (stop - start)[:, None]).astype(np.float32)
    return found


def keywords_of(classes: Sequence[str]) -> list[int]:
    """The places of the classes that are words, not silence or unknown words."""
    return [i for i, name in enumerate(classes) if name not in (SILENCE, UNKNOWN)]


def events_of(
    posteriors: Floats, classes: Sequence[str], hop: float, threshold: float, refractory: float
) -> list[Event]:
    """The words in smoothed probabilities (T, classes).

    Times in a row at which one and the same word is the likeliest class, with a probability of at least `threshold`,
    are one candidate, where its probability is highest: in the middle, where it is so for a while. A candidate less
    than `refractory` seconds after the event before it is dropped.
    """
    best = posteriors.argmax(axis=1)
    words = np.isin(best, keywords_of(classes)) & (posteriors.max(axis=1) >= threshold)
    states = np.where(words, best, -1)
    edges = np.flatnonzero(np.diff(states, prepend=-1, append=-1))
    found: list[Event] = []
    for start, stop in itertools.pairwise(edges):
        label = int(states[start])
        if label < 0:
            continue
        run = posteriors[start:stop, label]
        highest = np.flatnonzero(run >= run.max() - _FLAT)
        place = start + int(highest[len(highest) // 2])
        seconds = round(float(place * hop), 6)
        if found and seconds - found[-1].seconds < refractory:
            continue
        found.append(Event(seconds, classes[label], float(posteriors[place, label])))
    return found

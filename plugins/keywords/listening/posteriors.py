"""What a network hears over time: a window slides over a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bnnapps.plugins.keywords.hearing import Hearing
from bnnapps.plugins.keywords.listening.recording import Recording
from bnnapps.plugins.keywords.waves import Samples

Floats = NDArray[np.float32]

_BATCH = 128
"""Windows that run together."""


@dataclass(frozen=True)
class Heard:
    """A recording as a network heard it, at the times 0, hop, 2 hop, ... seconds, each the middle of a window.

    Attributes:
        hop: seconds between windows.
        posteriors: (T, classes), softmax of the logits; zeros where a window was too quiet.
        loudness: (T,), root mean square of each window in decibels of full scale.
        low, high: (T,), the lowest and the highest sample of each hop.

    """

    hop: float
    posteriors: Floats
    loudness: Floats
    low: Floats
    high: Floats

    @property
    def times(self) -> Floats:
        """(T,), in seconds."""
        return (np.arange(len(self.posteriors)) * self.hop).astype(np.float32)


def windows(recording: Recording, window: int, hop: int) -> Iterator[tuple[Samples, Samples]]:
    """Windows (B, window) of which the n-th has its middle at sample n * hop, and the hop that begins there.

    Half a window of silence lies before the recording and behind it. Only so much sound is held as a batch takes.
    """
    held: Floats = np.zeros(window // 2, dtype=np.float32)
    count = 1 + (recording.samples - 1) // hop
    given = 0

    def cut(ready: int) -> tuple[Samples, Samples]:
        rows = np.lib.stride_tricks.sliding_window_view(held, window)[: (ready - 1) * hop + 1 : hop]
        return rows, rows[:, window // 2 : window // 2 + hop]

    for block in recording.blocks():
        held = np.concatenate([held, block])
        while given < count and len(held) >= window + (_BATCH - 1) * hop:
            ready = min(_BATCH, count - given)
            yield cut(ready)
            held, given = held[ready * hop :], given + ready
    held = np.concatenate([held, np.zeros(window + hop, dtype=np.float32)])
    while given < count:
        ready = min(_BATCH, count - given, 1 + (len(held) - window) // hop)
        yield cut(ready)
        held, given = held[ready * hop :], given + ready


@torch.no_grad()
def hear(
    network: nn.Module,
    hearing: Hearing,
    recording: Recording,
    window: int,
    hop: int,
    quiet: float,
    tell: Callable[[int], None] = lambda _: None,
) -> Heard:
    """Run a network over a recording.

    Args:
        network: from pictures to logits, in eval mode.
        hearing: from sound to pictures.
        recording: at the rate of `hearing`.
        window: samples that the network hears at a time.
        hop: samples between windows.
        quiet: decibels of full scale; a window whose root mean square is lower holds no word.
        tell: called with the number of windows that are done since the last call.

    """
    rows: list[Floats] = []
    loudness: list[Floats] = []
    low: list[Floats] = []
    high: list[Floats] = []
    for batch, hops in windows(recording, window, hop):
        power = np.square(batch, dtype=np.float64).mean(axis=1)
        decibels = 10 * np.log10(np.maximum(power, 1e-20))
        loud = decibels >= quiet
        found = np.zeros((len(batch), 0), dtype=np.float32)
        if loud.any() or not rows:
            sound = torch.from_numpy(np.array(batch))  # windows overlap in one and the same memory
            found = network(hearing(sound)).float().softmax(dim=1).numpy()
        else:
            found = np.zeros((len(batch), rows[0].shape[1]), dtype=np.float32)
        rows.append(np.where(loud[:, None], found, np.float32(0)))
        loudness.append(decibels.astype(np.float32))
        low.append(hops.min(axis=1))
        high.append(hops.max(axis=1))
        tell(len(batch))
    parts = (np.concatenate(part) for part in (rows, loudness, low, high))
    return Heard(hop / recording.rate, *parts)

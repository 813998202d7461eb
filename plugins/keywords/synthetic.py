"""The embedded default: ten words of generated voices."""

from __future__ import annotations

import numpy as np

from bnnapps.plugins.keywords.clips import Clips, Spoken
from bnnapps.plugins.keywords.phones import WORDS
from bnnapps.plugins.keywords.synthesis import RATE, in_clip, random_speaker, spoken
from bnnapps.plugins.keywords.waves import at_rate

TRAIN, DEV = 1200, 300


def synthetic_words(train: int, dev: int, seed: int, rate: int, seconds: float) -> Spoken:
    """Words in turn, each speaker saying all ten; no voice of the dev set is in the training set."""
    samples = round(seconds * rate)
    parts = []
    for number, size in enumerate((train, dev)):
        clips = Clips([None] * size, np.arange(size) % len(WORDS), rate, samples)
        speaker = None
        for i, label in enumerate(clips.labels):
            rng = np.random.default_rng((seed, number, i))
            if label == 0 or speaker is None:
                speaker = random_speaker(np.random.default_rng((seed, number + 2, i)))
            clip = in_clip(spoken(list(WORDS)[label], speaker, rng), rng, seconds)
            found = at_rate(clip, RATE, rate)[:samples]
            clips.sounds[i] = np.round(np.clip(found, -1, 1) * 32767).astype(np.int16)
        parts.append(clips)
    title = f"{len(WORDS)} words of a formant synthesiser (generated, seed {seed})"
    return Spoken(parts[0], parts[1], tuple(WORDS), title)

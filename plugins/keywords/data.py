"""The clips of a recipe: read, checked and drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.clips import Spoken, drawn
from bnnapps.plugins.keywords.config import SoundData
from bnnapps.plugins.keywords.espeak import espeak_words
from bnnapps.plugins.keywords.folders import load_folders
from bnnapps.plugins.keywords.fsdd import load_fsdd
from bnnapps.plugins.keywords.phones import WORDS
from bnnapps.plugins.keywords.synthetic import DEV, TRAIN, synthetic_words

_WANTED = {
    "speech_commands": "the folder of Speech Commands, with yes/, no/ and the other words in it",
    "fsdd": "the folder of the recordings of the Free Spoken Digit Dataset",
    "folder": "a folder with WORD/*.wav",
}


def prepare_sound(settings: SoundData, seed: int) -> Spoken:
    """The clips that a recipe asks for.

    Raises:
        DataError: with one clear line.
        MissingExtraError: `source: espeak` without eSpeak NG.

    """
    if settings.source == "synthetic":
        train = TRAIN if settings.train_size is None else settings.train_size
        dev = DEV if settings.dev_size is None else settings.dev_size
        found = synthetic_words(train, dev, settings.generator_seed, settings.features.rate, settings.seconds)
    elif settings.source == "espeak":
        words = tuple(WORDS) if settings.words is None else tuple(settings.words)
        rate, sizes = settings.features.rate, (settings.train_size, settings.dev_size)
        found = espeak_words(words, *sizes, settings.generator_seed, rate, settings.seconds)
    else:
        if settings.root is None:
            raise DataError(f"data.source is '{settings.source}', so data.root must name {_WANTED[settings.source]}")
        root = Path(settings.root).expanduser()
        if not root.is_dir():
            raise DataError(f"data.root: {root} is not a folder; give {_WANTED[settings.source]}")
        if settings.source == "fsdd":
            rate = settings.features.rate
            samples = round(settings.seconds * rate)
            found = load_fsdd(root, settings.speakers_out, rate, samples, settings.longest, settings.cache)
        else:
            found = load_folders(root, settings, seed)
        found = replace(
            found,
            train=drawn(found.train, settings.train_size, seed),
            dev=drawn(found.dev, settings.dev_size, seed),
        )
    left = len(found.train) % settings.batch_size
    if len(found.train) < 2 or (settings.batch_size > 1 and left == 1):
        raise DataError(
            f"{len(found.train)} training clips in batches of {settings.batch_size} leave a batch of one clip, over "
            "which BatchNorm has nothing to normalise: change data.batch_size or data.train_size"
        )
    return found

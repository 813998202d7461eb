"""The Free Spoken Digit Dataset: `{digit}_{speaker}_{index}.wav` in one folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.clips import Clips, Spoken

_NAME = re.compile(r"(\d)_([^_]+)_(\d+)\.wav")
_OFFICIAL_TEST = 5
"""Recordings with a smaller number are the official test set."""


def load_fsdd(root: Path, speakers_out: Sequence[str], rate: int, samples: int, longest: float, keep: bool) -> Spoken:
    """Digits: the official split, or that of speakers who are left out of training.

    Raises:
        DataError: the folder has no such files, an unknown speaker, or one of the sets would be empty.

    """
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    found = [(path, match) for path in sorted(folder.glob("*.wav")) if (match := _NAME.fullmatch(path.name))]
    if not found:
        raise DataError(f"{folder} has no files such as 7_jackson_32.wav: set data.root to the folder of recordings")
    speakers = sorted({match[2] for _, match in found})
    for one in speakers_out:
        if one not in speakers:
            raise DataError(f"data.speakers_out names '{one}', and the speakers are {', '.join(speakers)}")

    def held_out(match: re.Match[str]) -> bool:
        return match[2] in speakers_out if speakers_out else int(match[3]) < _OFFICIAL_TEST

    def part(out: bool) -> Clips:
        chosen = [(path, int(match[1])) for path, match in found if held_out(match) == out]
        if not chosen:
            which = "dev" if out else "training"
            raise DataError(f"{folder}: the {which} set would be empty; change data.speakers_out, or add recordings")
        labels = np.array([digit for _, digit in chosen], dtype=np.int64)
        return Clips([path for path, _ in chosen], labels, rate, samples, longest, keep)

    strange = len(list(folder.glob("*.wav"))) - len(found)
    notes = (f"{strange} files of {folder} have another form of name than DIGIT_SPEAKER_NUMBER.wav: left out",)
    split = f"without {' and '.join(speakers_out)} in training" if speakers_out else "official split"
    title = f"Free Spoken Digits, {len(speakers)} speakers, {split}"
    return Spoken(part(False), part(True), tuple("0123456789"), title, notes=notes if strange else ())

"""Writes librosa_log_mel.npz: a clip and its log-mel bands by librosa 0.11.0, which the tests do without.

pip install librosa==0.11.0
python tests/plugins/keywords/write_librosa_reference.py
"""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np

from bnnapps.plugins.keywords.synthesis import Speaker, in_clip, spoken


def main() -> None:
    rng = np.random.default_rng(0)
    speaker = Speaker(pitch=120, tract=1.0, pace=1.0, fall=0.1, breath=0.03, damping=1.0)
    clip = np.round(in_clip(spoken("yes", speaker, rng), rng) * 32767).astype(np.int16)
    power = librosa.feature.melspectrogram(
        y=clip.astype(np.float32) / 32768,
        sr=16_000,
        n_fft=512,
        hop_length=160,
        n_mels=40,
        htk=True,
        norm=None,
        pad_mode="reflect",
    )
    decibels = librosa.power_to_db(power, amin=1e-10, top_db=None)
    target = Path(__file__).with_name("librosa_log_mel.npz")
    np.savez_compressed(target, clip=clip, log_mel=decibels.astype(np.float32))


if __name__ == "__main__":
    main()

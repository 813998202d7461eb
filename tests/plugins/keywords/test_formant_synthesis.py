from __future__ import annotations

import numpy as np
import pytest

from bnnapps.plugins.keywords.phones import WORDS
from bnnapps.plugins.keywords.synthesis import RATE, Speaker, in_clip, random_speaker, resonance, spoken

PLAIN = Speaker(pitch=100, tract=1.0, pace=1.0, fall=0.0, breath=0.0, damping=1.0)


def test_a_resonance_is_one_at_rest_and_centre_over_bandwidth_at_its_centre() -> None:
    gain = resonance(np.array([0.0, 500.0, 1e6]), np.array([500.0]), np.array([50.0]))
    assert gain[0] == 1
    assert gain[1] == pytest.approx(500 / 50)
    assert gain[2] == pytest.approx((500 / 1e6) ** 2, rel=1e-3)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_follows_from_speaker_and_seed(word: str) -> None:
    first, again, other = (spoken(word, PLAIN, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)
    assert np.abs(first).max() == pytest.approx(0.5, rel=1e-5)
    assert 0.15 < len(first) / RATE < 0.9


def test_the_voice_has_its_pitch_and_its_formants() -> None:
    sound = spoken("on", PLAIN, np.random.default_rng(3))[: int(0.18 * RATE)].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 4 * RATE))
    pitch = 60 + spectrum[240:640].argmax() / 4
    assert 85 <= pitch <= 115  # it varies by some percent
    power = spectrum**2
    inside = power[4 * 500 : 4 * 1400].sum()  # the first two formants of this vowel are at 730 and 1090 Hz
    assert inside > 3 * power[4 * 1500 : 4 * 2200].sum()


def test_friction_is_high_and_without_pitch() -> None:
    sound = spoken("stop", PLAIN, np.random.default_rng(4))[: int(0.09 * RATE)].astype(np.float64)
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    assert power[hertz > 3500].sum() > 10 * power[hertz < 3500].sum()


def test_speakers_differ_and_stay_human() -> None:
    rng = np.random.default_rng(0)
    speakers = [random_speaker(rng) for _ in range(200)]
    assert len(set(speakers)) == 200
    pitches = np.array([s.pitch for s in speakers])
    assert pitches.min() >= 70
    assert pitches.max() <= 330
    assert pitches.std() > 40


def test_a_clip_has_its_length_and_holds_the_word() -> None:
    rng = np.random.default_rng(5)
    word = spoken("yes", PLAIN, rng)
    clip = in_clip(word, rng)
    assert clip.shape == (RATE,)
    assert clip.dtype == np.float32
    assert np.abs(clip).max() > 0.1
    assert in_clip(word, rng, seconds=0.1).shape == (1600,)
    assert spoken("yes", PLAIN, np.random.default_rng(1), rate=8000).shape[0] == pytest.approx(
        len(spoken("yes", PLAIN, np.random.default_rng(1))) / 2, abs=1
    )


def test_words_of_unknown_speakers_are_told_apart_by_their_nearest_neighbours() -> None:
    def clips(seed: int, each: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        rows, labels = [], []
        for _ in range(each):
            speaker = random_speaker(rng)
            for label, word in enumerate(WORDS):
                sound = spoken(word, speaker, rng)
                parts = np.array_split(sound, 12)
                spectra = [np.abs(np.fft.rfft(p * np.hanning(len(p)), 512)) for p in parts]
                bands = np.array([[b.mean() for b in np.array_split(s, 24)] for s in spectra])
                rows.append(np.log(bands + 1e-3).ravel())
                labels.append(label)
        return np.array(rows), np.array(labels)

    seen, truth = clips(0, 8)
    unseen, expected = clips(1, 4)
    nearest = np.square(unseen[:, None] - seen[None]).sum(axis=2).argmin(axis=1)
    assert (truth[nearest] == expected).mean() > 0.8

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bnnapps.errors import RecipeError
from bnnapps.plugins.keywords.features import Features, FeatureSettings, row_statistics, standardized
from bnnapps.plugins.keywords.phones import WORDS
from bnnapps.plugins.keywords.synthesis import Speaker, spoken
from bnnapps.validation import validated

REFERENCE = Path(__file__).with_name("librosa_log_mel.npz")  # see write_librosa_reference.py
SPEAKER = Speaker(pitch=120, tract=1.0, pace=1.0, fall=0.1, breath=0.03, damping=1.0)


def clip(word: str = "yes") -> Tensor:
    sound = spoken(word, SPEAKER, np.random.default_rng(0))
    return torch.nn.functional.pad(torch.from_numpy(sound), (2000, 14_000 - len(sound)))


def mel_bands(settings: FeatureSettings) -> np.ndarray:
    """Triangles between points that are equally far apart in 2595 log10(1 + f / 700)."""
    hertz = np.linspace(0, settings.rate / 2, settings.window // 2 + 1)
    top = 2595 * np.log10(1 + settings.rate / 2 / 700)
    points = 700 * (10 ** (np.linspace(0, top, settings.mels + 2) / 2595) - 1)
    rows = []
    for left, middle, right in zip(points, points[1:], points[2:], strict=False):
        up, down = (hertz - left) / (middle - left), (right - hertz) / (right - middle)
        rows.append(np.clip(np.minimum(up, down), 0, None))
    return np.array(rows)


def log_mel(sound: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """The formula of the docstring, in numpy."""
    half = settings.window // 2
    padded = np.pad(sound.astype(np.float64), half, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.window) / settings.window)
    columns = []
    for i in range(settings.columns(len(sound))):
        spectrum = np.fft.rfft(padded[i * settings.hop :][: settings.window] * window)
        columns.append(np.abs(spectrum) ** 2 / (np.square(window).sum() if settings.normalized else 1))
    return 10 * np.log10(np.maximum(mel_bands(settings) @ np.array(columns).T, 1e-10))


@pytest.mark.parametrize("normalized", [True, False])
def test_log_mel_is_its_formula(normalized: bool) -> None:
    settings = FeatureSettings(normalized=normalized)
    found = Features(settings)(clip()[None])
    assert found.shape == (1, 1, 32, 32) == (1, 1, settings.rows, settings.columns(16_000))
    expected = log_mel(clip().numpy(), settings)
    clear = expected > -80  # what is quieter is rounding of float32
    np.testing.assert_allclose(found[0, 0].numpy()[clear], expected[clear], atol=0.02)


def test_log_mel_is_librosas() -> None:
    with np.load(REFERENCE) as file:
        sound, expected = file["clip"].astype(np.float32) / 32768, file["log_mel"]
    settings = FeatureSettings(window=512, hop=160, mels=40, normalized=False)
    found = Features(settings)(torch.from_numpy(sound)[None])[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_coefficients_are_the_cosine_transform_of_the_bands() -> None:
    bands = FeatureSettings(window=640, hop=320, mels=40, normalized=False)
    settings = bands.model_copy(update={"kind": "mfcc", "coefficients": 10})
    found = Features(settings)(clip("go")[None])[0, 0]
    assert found.shape == (10, 51)
    decibels = log_mel(clip("go").numpy(), bands)
    decibels = np.maximum(decibels, decibels.max() - 80)
    k, n = np.arange(10)[:, None], np.arange(40)[None, :]
    transform = np.cos(np.pi / 40 * (n + 0.5) * k) * np.sqrt(2 / 40)
    transform[0] /= np.sqrt(2)
    np.testing.assert_allclose(found.numpy(), transform @ decibels, atol=0.05)


@pytest.mark.parametrize("kind", ["log_mel", "mfcc"])
def test_a_clip_does_not_depend_on_its_batch(kind: str) -> None:
    features = Features(FeatureSettings.model_validate({"kind": kind, "coefficients": 12}))
    alone = features(clip("no")[None] * 1e-3)
    beside = features(torch.stack([clip("no") * 1e-3, clip("stop")]))[:1]
    torch.testing.assert_close(alone, beside)


def test_rows_are_brought_to_mean_0_and_deviation_1() -> None:
    pictures = torch.randn(5, 1, 3, 7) * torch.tensor([1.0, 4.0, 0.0]).reshape(3, 1) + 2
    mean, std = row_statistics(pictures)
    found = standardized(pictures, mean, std)
    torch.testing.assert_close(found.mean(dim=(0, 1, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(dim=(0, 1, 3), correction=0), torch.tensor([1.0, 1.0, 0.0]))


def test_too_little_sound_is_refused() -> None:
    with pytest.raises(ValueError, match=r"900 samples are too few for windows of 2048: give at least 1025"):
        Features(FeatureSettings())(torch.zeros(1, 900))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hop": 4096}, "sound between windows would be lost"),
        ({"kind": "mfcc", "coefficients": 64}, "only 32 mels"),
        ({"high": 9000.0}, "give 0 <= low < high <= 8000"),
        ({"low": 5000.0, "high": 4000.0}, "bands from 5000 to 4000 Hz"),
    ],
)
def test_what_does_not_fit_together(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        validated(FeatureSettings, wrong, "data.features", RecipeError)


def test_every_word_has_features_of_its_own() -> None:
    pictures = Features(FeatureSettings())(torch.stack([clip(word) for word in WORDS]))
    assert len({tuple(p.flatten().tolist()) for p in pictures}) == len(WORDS)

"""Words spoken by eSpeak NG."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
from typing import Any

import numpy as np
import pytest

from bnnapps.errors import DataError, MissingExtraError, RecipeError
from bnnapps.plugins.keywords import espeak
from bnnapps.plugins.keywords.config import SoundData
from bnnapps.plugins.keywords.data import prepare_sound
from bnnapps.validation import validated

SETTINGS = SoundData.model_validate(
    {
        "source": "espeak",
        "words": ["lamp", "window", "door"],
        "train_size": 12,
        "dev_size": 6,
        "batch_size": 6,
        "features": {"rate": 8000, "window": 256, "hop": 128},
    }
)


def test_words_are_spoken_the_same_for_a_seed() -> None:
    first, again = prepare_sound(SETTINGS, 42), prepare_sound(SETTINGS, 42)
    assert first.classes == ("lamp", "window", "door")
    assert first.description == "3 words spoken by eSpeak NG (generated, seed 0)"
    assert (len(first.train), len(first.dev)) == (12, 6)
    np.testing.assert_array_equal(first.train.labels, np.arange(12) % 3)
    for clips, other in ((first.train, again.train), (first.dev, again.dev)):
        for i in range(len(clips)):
            np.testing.assert_array_equal(clips.sounds[i], other.sounds[i])
            assert clips.sounds[i].shape == (8000,)
            assert np.abs(clips.sounds[i]).max() > 2000
    changed = prepare_sound(SETTINGS.model_copy(update={"generator_seed": 1}), 42)
    assert not np.array_equal(first.train.sounds[0], changed.train.sounds[0])


def test_every_accent_speaks_in_its_own_way() -> None:
    library, data = espeak._installed()
    jobs = [("window", f"{accent}+f2", 150, 50, 50, 1) for accent in espeak.ACCENTS]
    rate, sounds = espeak._spoken(library, data, jobs)
    assert rate == 22_050
    assert all(np.abs(espeak._trimmed(sound, "window")).max() == pytest.approx(0.5) for sound in sounds)
    assert len({sound.tobytes() for sound in sounds}) == len(espeak.ACCENTS)
    with pytest.raises(DataError, match="eSpeak NG has no voice 'xx-nowhere'"):
        espeak._spoken(library, data, [("window", "xx-nowhere", 150, 50, 50, 1)])


def test_voices_of_the_dev_set_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[espeak.Job]] = []

    def spoken(library: str, data: str, jobs: Any) -> Any:
        asked.append(jobs)
        return 8000, [np.full(2000, 0.2, dtype=np.float32)] * len(jobs)

    monkeypatch.setattr(espeak, "_spoken", spoken)
    espeak.espeak_words(["a", "b"], 200, 100, 0, 8000, 1.0)
    train, dev = ({job[1].partition("+")[2] for job in jobs} for jobs in asked)
    assert len(train) > 50
    assert len(dev) > 10
    assert not train & dev
    assert not any("robo" in name.lower() for name in train | dev)
    first, second = asked[0][:2]
    assert first[1:5] == second[1:5]  # a speaker says all words in turn
    assert (first[0], second[0]) == ("a", "b")


def test_without_the_extra_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"data\.source 'espeak' needs the package 'espeakng-loader'.*bnnapps\[speech\]"):  # fmt: skip  # noqa: E501
        prepare_sound(SETTINGS, 0)


@pytest.mark.parametrize(("code", "errors", "says"), [(1, b"Traceback\nno voice 'x'\n", "no voice 'x'"), (-11, b"", "it ended with -11")])  # fmt: skip  # noqa: E501
def test_a_process_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, code: int, errors: bytes, says: str) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], code, b"", errors))
    with pytest.raises(DataError, match=f"^eSpeak NG does not speak: {says}$"):
        prepare_sound(SETTINGS, 0)


def test_what_cannot_be_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    out = struct.pack("<I", 8000) + struct.pack("<I", 0) * 12
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, out, b""))
    with pytest.raises(DataError, match="eSpeak NG says nothing for 'lamp'"):
        prepare_sound(SETTINGS, 0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"source": "espeak", "root": "x"}, "source is 'espeak', which reads none"),
        ({"source": "espeak", "words": ["a"]}, "name at least two words, each once"),
        ({"source": "espeak", "words": [True, "up"]}, "yes, no, on and off .* put them in quotes"),
        ({"source": "espeak", "words": ["a", "b", "a"]}, "name at least two words, each once"),
    ],
)
def test_settings_that_do_not_fit(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        validated(SoundData, wrong, "data", RecipeError)

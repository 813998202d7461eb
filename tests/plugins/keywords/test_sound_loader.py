from __future__ import annotations

import numpy as np
import pytest
import torch

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.augment import DRAWS, changed, faster, hissing, moved
from bnnapps.plugins.keywords.clips import Clips
from bnnapps.plugins.keywords.config import SoundAugment, SoundData
from bnnapps.plugins.keywords.data import prepare_sound
from bnnapps.plugins.keywords.features import FeatureSettings
from bnnapps.plugins.keywords.hearing import hearing_of
from bnnapps.plugins.keywords.loader import sound_loader

NEVER = np.full(DRAWS, 0.999)


def numbers(**given: float) -> np.ndarray:
    found = NEVER.copy()
    for place, value in given.items():
        found[int(place[1:])] = value
    return found


RAMP = np.linspace(-0.5, 0.5, 16, dtype=np.float32)


def test_without_luck_a_clip_stays_as_it_is() -> None:
    settings = SoundAugment()
    assert np.array_equal(changed(RAMP, settings, [RAMP], 16, NEVER), RAMP)
    assert changed(RAMP, SoundAugment(none=True), [RAMP], 16, np.zeros(DRAWS)) is RAMP


def test_each_change_is_its_formula() -> None:
    settings = SoundAugment()
    np.testing.assert_allclose(changed(RAMP, settings, [], 16, numbers(n0=0.1, n1=0.5)), RAMP * 0.9, rtol=1e-6)
    later = changed(RAMP, settings, [], 10, numbers(n4=0.0, n5=1 - 1e-9))
    np.testing.assert_array_equal(later, [0, 0, *RAMP[:-2]])
    noise = np.arange(20, dtype=np.float32) / 100
    mixed = changed(RAMP, settings, [RAMP, noise], 16, numbers(n6=0.1, n7=0.5, n8=0.9, n9=0.5))
    np.testing.assert_allclose(mixed, RAMP + 0.15 * noise[2:18], rtol=1e-5)
    quick = changed(RAMP, settings, [], 16, numbers(n2=0.1, n3=1 - 1e-9))
    assert quick.shape == RAMP.shape
    assert quick[0] == 0  # 16 / 1.2 = 13 samples, with silence around


def test_white_noise_has_the_drawn_level_and_follows_from_its_numbers() -> None:
    settings = SoundAugment(white_noise=[-60, -20])
    silence = np.zeros(16_000, dtype=np.float32)
    drawn = numbers(n10=0.25, n11=0.3)
    found = hissing(silence, settings, drawn)
    assert found.dtype == np.float32
    assert 20 * np.log10(found.std()) == pytest.approx(-50, abs=0.2)
    assert abs(found.mean()) < 1e-4
    assert np.array_equal(found, hissing(silence, settings, drawn))
    assert not np.array_equal(found, hissing(silence, settings, numbers(n10=0.25, n11=0.31)))
    assert np.array_equal(changed(silence, settings, [], 16_000, drawn), found)
    assert hissing(silence, SoundAugment(), drawn) is silence
    assert hissing(silence, SoundAugment(none=True, white_noise=[-60, -20]), drawn) is silence


@pytest.mark.parametrize("levels", [[-20, -60], [-20, 3], [-20]])
def test_levels_of_noise_that_cannot_be_are_refused(levels: list[float]) -> None:
    with pytest.raises(ValueError, match="white_noise"):
        SoundAugment(white_noise=levels)


def test_silence_gets_white_noise_in_training_alone() -> None:
    clips = Clips([None, None], np.zeros(2, dtype=np.int64), 8_000, 800)
    settings = SoundData(augment=SoundAugment(white_noise=[-40, -40]))
    heard = {train: next(iter(sound_loader(clips, settings, (), 1, train)))["sound"] for train in (True, False)}
    assert heard[True].std().item() == pytest.approx(0.01, rel=0.1)
    assert not heard[False].any()


def test_speed_takes_the_nearest_earlier_sample() -> None:
    assert faster(np.arange(6.0, dtype=np.float32), 2.0).tolist() == [0, 2, 4]
    assert faster(np.arange(4.0, dtype=np.float32), 0.5).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_shift_to_either_side() -> None:
    x = np.arange(1.0, 5.0, dtype=np.float32)
    assert moved(x, 1).tolist() == [0, 1, 2, 3]
    assert moved(x, -1).tolist() == [2, 3, 4, 0]
    assert moved(x, 0).tolist() == x.tolist()


@pytest.fixture(scope="module")
def spoken():  # type: ignore[no-untyped-def]
    return prepare_sound(SoundData(train_size=24, dev_size=10, batch_size=8), 0)


def test_batches_follow_seed_and_epoch(spoken) -> None:  # type: ignore[no-untyped-def]
    settings = SoundData(batch_size=8)

    def epoch(number: int, seed: int = 3) -> list[dict[str, torch.Tensor]]:
        loader = sound_loader(spoken.train, settings, (), seed, train=True)
        loader.set_epoch(number)
        return list(loader)

    first, again, later, other = epoch(0), epoch(0), epoch(1), epoch(0, 4)
    assert [b["sound"].shape for b in first] == [(8, 16_000)] * 3
    assert all(torch.equal(a["sound"], b["sound"]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0]["sound"], later[0]["sound"])
    assert not torch.equal(first[0]["sound"], other[0]["sound"])
    assert sorted(torch.cat([b["labels"] for b in first]).tolist()) == sorted(spoken.train.labels.tolist())


def test_the_dev_set_is_the_same_in_every_epoch(spoken) -> None:  # type: ignore[no-untyped-def]
    quiet = Clips([None] * 4, np.zeros(4, dtype=np.int64), 16, 16)
    noise = np.random.default_rng(0).normal(size=100).astype(np.float32)
    loader = sound_loader(quiet, SoundData(), (noise,), 0, train=False)
    before = next(iter(loader))["sound"]
    loader.set_epoch(1)
    assert torch.equal(next(iter(loader))["sound"], before)
    assert before.std() > 0.05
    assert len({tuple(row.tolist()) for row in before}) == 4
    without = sound_loader(quiet, SoundData(), (), 0, train=False)
    assert not next(iter(without))["sound"].any()
    dev = sound_loader(spoken.dev, SoundData(), (noise,), 0, train=False)
    assert next(iter(dev))["labels"].tolist() == list(range(10))


def test_clips_of_silence_alone_are_refused() -> None:
    clips = Clips([None] * 4, np.array([0, 1, 0, 1]), 16_000, 16_000)
    with pytest.raises(DataError, match="the 4 training clips that were heard are silent: there is no word to learn"):
        hearing_of(clips, FeatureSettings())

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.clips import SILENCE, UNKNOWN, Clips, Spoken, fitted, read_clip
from bnnapps.plugins.keywords.config import SoundData
from bnnapps.plugins.keywords.data import prepare_sound
from bnnapps.plugins.keywords.folders import OFFICIAL, speaker_share
from bnnapps.plugins.keywords.waves import write_wave


def tone(hertz: float, rate: int = 16_000, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def settings(source: str, root: Path, **more: Any) -> SoundData:
    return SoundData.model_validate({"source": source, "root": str(root), "batch_size": 4} | more)


def speech_commands(root: Path, words: tuple[str, ...], each: int = 5) -> Path:
    """`each` clips of every word, the last two of them in the lists, and a recording of noise."""
    held: dict[str, list[str]] = {"validation": [], "testing": []}
    for number, word in enumerate(words):
        (root / word).mkdir(parents=True)
        for i in range(each):
            name = f"{word}/{i:08x}_nohash_0.wav"
            write_wave(root / name, tone(100 + 20 * number + i), 16_000)
            if i >= each - 2:
                held["testing" if i == each - 1 else "validation"].append(name)
    for part, names in held.items():
        (root / f"{part}_list.txt").write_text("\n".join(names) + "\n")
    (root / "_background_noise_").mkdir()
    write_wave(root / "_background_noise_" / "hum.wav", tone(50, seconds=3), 16_000)
    return root


def names(clips: Clips) -> list[str]:
    return [f"{p.parent.name}/{p.name[:8]}" for p in clips.names if p is not None]


@pytest.mark.parametrize(("classes", "count"), [(20, 20), (30, 30), (35, 35)])
def test_the_official_sets_of_words(tmp_path: Path, classes: int, count: int) -> None:
    root = speech_commands(tmp_path, OFFICIAL[35], each=3)
    found = prepare_sound(settings("speech_commands", root, classes=classes), 0)
    assert found.classes == OFFICIAL[classes]
    assert len(set(found.classes)) == count
    assert (len(found.train), len(found.dev)) == (count, count)
    assert not set(names(found.train)) & set(names(found.dev))
    left = (35 - count) * 3
    assert found.notes == () if left == 0 else found.notes[0].startswith(f"{left} clips of other words are left out")


def test_twelve_classes_have_unknown_words_and_silence(tmp_path: Path) -> None:
    root = speech_commands(tmp_path, OFFICIAL[30])
    found = prepare_sound(settings("speech_commands", root, classes=12, evaluate_on="testing"), 0)
    assert found.classes == (*OFFICIAL[12], UNKNOWN, SILENCE)
    assert found.train.labels.tolist().count(10) == 3  # a tenth of 3 clips of each of ten words
    assert found.train.labels.tolist().count(11) == 3
    assert found.dev.labels.tolist().count(10) == 1
    strangers = {n.split("/")[0] for n, label in zip(found.train.names, found.train.labels, strict=False) if label == 10
                 for n in [f"{n.parent.name}/x"]}  # fmt: skip
    assert strangers
    assert not strangers & set(OFFICIAL[12])
    assert [n.name for n in found.dev.names if n is not None and n.parent.name == "yes"] == ["00000004_nohash_0.wav"]
    assert len(found.noises) == 1
    assert np.abs(found.noises[0]).max() > 0.4
    again, other = (prepare_sound(settings("speech_commands", root, classes=12), s) for s in (0, 1))
    assert names(again.train) == names(found.train)
    assert names(other.train) != names(found.train)


def test_lists_that_name_absent_files(tmp_path: Path) -> None:
    root = speech_commands(tmp_path, OFFICIAL[20], each=3)
    with (root / "testing_list.txt").open("a") as file:
        file.write("yes/ffffffff_nohash_0.wav\n../../../outside.wav\n")
    found = prepare_sound(settings("speech_commands", root, classes=20), 0)
    assert found.notes == (
        "testing_list.txt names 2 of 22 files that are not there, such as yes/ffffffff_nohash_0.wav",
    )


def test_any_folder_of_words_at_any_rate(tmp_path: Path) -> None:
    for word, rate in (("ja", 8000), ("nein", 44_100), ("vielleicht", 16_000)):
        (tmp_path / word).mkdir()
        for i in range(30):
            write_wave(tmp_path / word / f"{i}.wav", tone(300, rate, 0.4), rate)
    found = prepare_sound(settings("folder", tmp_path), 0)
    assert found.classes == ("ja", "nein", "vielleicht")
    assert "no official lists" in found.notes[0]
    assert len(found.train) + 2 * len(found.dev) == pytest.approx(90, abs=20)
    for label in range(3):
        index = found.train.labels.tolist().index(label)
        sound = found.train.sound(index)
        assert sound.shape == (16_000,)
        spectrum = np.abs(np.fft.rfft(sound))
        assert abs(int(spectrum.argmax()) - 300) <= 2
        assert not sound[:4000].any()  # silence on both sides
    few = prepare_sound(settings("folder", tmp_path, words=["ja", "nein"], unknown=0.5), 0)
    assert few.classes == ("ja", "nein", UNKNOWN)
    without = prepare_sound(settings("folder", tmp_path, words=["ja", "nein"], unknown=0.0), 0)
    assert without.classes == ("ja", "nein")
    assert without.notes[-1] == "30 clips of other words are left out: vielleicht"


def test_a_speakers_clips_stay_together() -> None:
    assert speaker_share("yes/0a7c2a8d_nohash_0.wav") == speaker_share("no/0a7c2a8d_nohash_3.wav")
    shares = np.array([speaker_share(f"{i}.wav") for i in range(500)])
    assert 0.05 < (shares < 0.1).mean() < 0.15


def fsdd(root: Path, speakers: tuple[str, ...] = ("ann", "bob", "cyd")) -> Path:
    for digit in range(10):
        for speaker in speakers:
            for i in (0, 4, 5, 12):
                write_wave(root / f"{digit}_{speaker}_{i}.wav", tone(200 + digit, 8000), 8000)
    return root


def test_the_official_split_of_fsdd(tmp_path: Path) -> None:
    found = prepare_sound(settings("fsdd", fsdd(tmp_path)), 0)
    assert found.classes == tuple("0123456789")
    assert (len(found.train), len(found.dev)) == (60, 60)
    assert {int(n.stem.split("_")[2]) for n in found.dev.names if n is not None} == {0, 4}
    assert all(int(n.name[0]) == label for n, label in zip(found.dev.names, found.dev.labels, strict=True) if n)
    assert found.notes == ()


def test_speakers_left_out_of_fsdd(tmp_path: Path) -> None:
    (fsdd(tmp_path) / "readme_of_mine.wav").write_bytes(b"")
    found = prepare_sound(settings("fsdd", tmp_path, speakers_out=["bob"]), 0)
    assert {n.stem.split("_")[1] for n in found.dev.names if n is not None} == {"bob"}
    assert {n.stem.split("_")[1] for n in found.train.names if n is not None} == {"ann", "cyd"}
    assert "1 files of" in found.notes[0]
    with pytest.raises(DataError, match=r"names 'eve', and the speakers are ann, bob, cyd"):
        prepare_sound(settings("fsdd", tmp_path, speakers_out=["eve"]), 0)
    with pytest.raises(DataError, match="the training set would be empty"):
        prepare_sound(settings("fsdd", tmp_path, speakers_out=["ann", "bob", "cyd"]), 0)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("speech_commands", r"has no folder 'yes' with wav files, one of the 10 words \(data.classes is 12\)"),
        ("fsdd", "has no files such as 7_jackson_32.wav"),
    ],
)
def test_another_layout(tmp_path: Path, source: str, says: str) -> None:
    for word in ("a", "b"):
        (tmp_path / word).mkdir()
        write_wave(tmp_path / word / "x.wav", tone(100), 16_000)
    with pytest.raises(DataError, match=says):
        prepare_sound(settings(source, tmp_path), 0)


def test_no_folder_and_no_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.root: .*nowhere is not a folder; give the folder of Speech Commands"):
        prepare_sound(settings("speech_commands", tmp_path / "nowhere"), 0)
    with pytest.raises(DataError, match=r"so data\.root must name a folder with WORD"):
        prepare_sound(SoundData(source="folder"), 0)
    with pytest.raises(DataError, match="wav files of 0 words in folders"):
        prepare_sound(settings("folder", tmp_path), 0)


def test_a_clip_of_no_length_and_one_of_an_hour(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wave(path, np.zeros(0), 16_000)
    with pytest.raises(DataError, match=r"a\.wav holds no samples"):
        read_clip(path, 16_000, 60)
    write_wave(path, np.zeros(3600 * 1000), 1000)
    with pytest.raises(DataError, match=r"a\.wav lasts 3600 s, and a clip of a word at most 60 s"):
        read_clip(path, 16_000, 60)


def test_what_is_around_the_middle() -> None:
    assert fitted(np.arange(1, 4, dtype=np.float32), 6).tolist() == [0, 1, 2, 3, 0, 0]
    assert fitted(np.arange(5, dtype=np.float32), 2).tolist() == [1, 2]
    assert fitted(np.arange(4, dtype=np.float32), 4).tolist() == [0, 1, 2, 3]


def test_the_embedded_words(tmp_path: Path) -> None:
    found: Spoken = prepare_sound(SoundData(train_size=20, dev_size=10), 0)
    assert found.train.labels.tolist() == list(range(10)) * 2
    assert found.train.sound(3).shape == (16_000,)
    assert not found.train.is_silence(3)
    again = prepare_sound(SoundData(train_size=20, dev_size=10), 7)  # the recipe's seed has no say
    assert all(np.array_equal(again.dev.sound(i), found.dev.sound(i)) for i in range(10))
    with pytest.raises(DataError, match="21 training clips in batches of 20 leave a batch of one clip"):
        prepare_sound(SoundData(train_size=21, dev_size=10, batch_size=20), 0)

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.waves import at_rate, read_wave, wave_info, write_wave

LEVELS = np.array([-1.0, -0.5, 0.0, 0.25, 0.5])


def wav(form: int, bits: int, raw: bytes, channels: int = 1, rate: int = 8000, before: bytes = b"") -> bytes:
    align = channels * bits // 8
    fmt = struct.pack("<HHIIHH", form, channels, rate, rate * align, align, bits)
    chunks = before + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(raw)) + raw
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def pcm(bits: int) -> bytes:
    whole = (LEVELS * 2 ** (bits - 1)).astype(np.int64)
    if bits == 8:
        return (whole + 128).astype(np.uint8).tobytes()
    if bits == 24:
        return b"".join(int(v).to_bytes(3, "little", signed=True) for v in whole)
    return whole.astype(f"<i{bits // 8}").tobytes()


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_integers_of_every_width(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(1, bits, pcm(bits)))
    samples, rate = read_wave(path)
    assert rate == 8000
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, LEVELS.astype(np.float32))


@pytest.mark.parametrize("bits", [32, 64])
def test_floating_point_samples_stay_as_they_are(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(3, bits, (2 * LEVELS).astype(f"<f{bits // 8}").tobytes()))
    np.testing.assert_array_equal(read_wave(path)[0], (2 * LEVELS).astype(np.float32))


def test_channels_are_averaged_and_other_chunks_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    pairs = np.array([[100, 300], [-200, 0]], dtype="<i2")
    note = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # of odd length, so one byte follows
    path.write_bytes(wav(1, 16, pairs.tobytes(), channels=2, before=note))
    np.testing.assert_allclose(read_wave(path)[0] * 32768, [200, -100])


def test_the_extensible_header_names_its_encoding_later(tmp_path: Path) -> None:
    raw = LEVELS.astype("<f4").tobytes()
    fmt = struct.pack("<HHIIHH", 0xFFFE, 1, 16000, 64000, 4, 32) + struct.pack("<HHIH", 22, 32, 4, 3) + bytes(14)
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(raw)) + raw
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    np.testing.assert_array_equal(read_wave(path)[0], LEVELS.astype(np.float32))


def test_a_size_that_was_never_filled_in_means_to_the_end(tmp_path: Path) -> None:
    good = wav(1, 16, pcm(16))
    path = tmp_path / "a.wav"
    path.write_bytes(good[:40] + struct.pack("<I", 0x7FFFF000) + good[44:])
    assert len(read_wave(path)[0]) == len(LEVELS)


def test_a_part_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(1, 16, pcm(16)))
    np.testing.assert_array_equal(read_wave(path, 1, 2)[0], LEVELS[1:3].astype(np.float32))
    assert len(read_wave(path, 4, 9)[0]) == 1
    assert len(read_wave(path, 9)[0]) == 0


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wave(path, np.array([0.5, -1.5, 1.0, 1 / 32768]), 22050)
    samples, rate = read_wave(path)
    assert rate == 22050
    np.testing.assert_array_equal(samples * 32768, [16384, -32768, 32767, 1])
    assert wave_info(path).seconds == 4 / 22050


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (pcm(16) * 20, "has no WAV header"),
        (wav(1, 16, pcm(16))[:-3], "is truncated: its header says 10 bytes of samples, and 7 are there"),
        (wav(1, 16, pcm(16))[:30], "ends in its header: it is truncated"),
        (wav(1, 16, pcm(16))[:36], "ends before its samples: it is truncated"),
        (wav(7, 8, b"abc"), "is encoded as mu-law"),
        (wav(0x123, 8, b"abc"), "is encoded as format 291"),
        (wav(1, 12, b"abc"), "has samples of 12 bits"),
        (wav(1, 16, b"ab", rate=3), "says 3 samples a second"),
        (wav(1, 16, b"", channels=0), "says 0 channels"),
        (wav(3, 32, struct.pack("<f", float("nan"))), "has a sample that is not finite"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"broken\.wav {says}"):
        read_wave(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.wav cannot be read: No such file"):
        read_wave(tmp_path / "none.wav")


def test_another_rate_keeps_a_tone() -> None:
    seconds = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    found = at_rate(tone, 8000, 16000)
    assert found.shape == (16000,)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=5e-3)
    assert at_rate(tone, 8000, 8000) is tone

"""WAV files, read and written without system packages."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from bnnapps.errors import DataError

Samples = NDArray[np.float32]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_OPEN_END = 0x7FFF0000
"""A writer that cannot go back and fill in the size leaves one at least so large: the sound goes on to the end."""
_RATES = (1_000, 768_000)
_CODECS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x55: "MP3"}


@dataclass(frozen=True)
class WaveInfo:
    """What the header of a WAV file says.

    Attributes:
        rate: frames a second.
        channels: samples a frame.
        bits: of a sample.
        floats: whether samples are floating-point numbers.
        offset: bytes before the first sample.
        frames: how many there are.

    """

    rate: int
    channels: int
    bits: int
    floats: bool
    offset: int
    frames: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.rate


def wave_info(path: Path) -> WaveInfo:
    """The header of a file, checked against the file's size.

    Raises:
        DataError: it cannot be read, is no WAV file, is damaged or truncated, or has an encoding that is not read.

    """
    try:
        with path.open("rb") as file:
            return _info(file, path.stat().st_size)
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror or problem}") from None
    except _BadWaveError as problem:
        raise DataError(f"{path} {problem}") from None


def read_wave(path: Path, first: int = 0, frames: int | None = None) -> tuple[Samples, int]:
    """Samples in [-1, 1], the mean over channels, and the frames a second.

    Integers of 8 (unsigned), 16, 24 or 32 bits are divided by 2^(bits - 1); floating-point samples stay as they are.

    Args:
        path: the file.
        first: the frame to begin at.
        frames: read at most so many.

    Raises:
        DataError: as `wave_info`, or a sample is not finite.

    """
    info = wave_info(path)
    count = max(0, info.frames - first)
    count = count if frames is None else min(count, frames)
    width = info.bits // 8 * info.channels
    with path.open("rb") as file:
        file.seek(info.offset + first * width)
        raw = file.read(count * width)
    samples = _decoded(raw, info).reshape(-1, info.channels).mean(axis=1, dtype=np.float64).astype(np.float32)
    if not np.isfinite(samples).all():
        raise DataError(f"{path} has a sample that is not finite: mend or remove the file")
    return samples, info.rate


def write_wave(path: Path, samples: NDArray[np.floating], rate: int) -> None:
    """Write one channel of 16-bit samples; what is beyond [-1, 1] is clipped."""
    with WaveWriter(path, rate) as file:
        file.write(samples)


class WaveWriter:
    """A WAV file that is written piece by piece: one channel of 16-bit samples.

    Attributes:
        frames: how many are written.

    """

    def __init__(self, path: Path, rate: int) -> None:
        self.path, self.rate, self.frames = path, rate, 0

    def __enter__(self) -> WaveWriter:
        self._file = self.path.open("wb")
        self._file.write(self._head())
        return self

    def write(self, samples: NDArray[np.floating]) -> None:
        """Append samples; what is beyond [-1, 1] is clipped."""
        whole = np.clip(np.round(np.asarray(samples, dtype=np.float64) * 32768), -32768, 32767).astype("<i2")
        self._file.write(whole.tobytes())
        self.frames += len(whole)

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._file.write(self._head())
        self._file.close()

    def _head(self) -> bytes:
        size = 2 * self.frames
        head = struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16)
        return head + struct.pack("<HHIIHH4sI", _PCM, 1, self.rate, 2 * self.rate, 2, 16, b"data", size)


class _BadWaveError(Exception):
    """What is wrong with the file."""


def _info(file: BinaryIO, size: int) -> WaveInfo:
    head = file.read(12)
    if size == 0:
        raise _BadWaveError("is empty")
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        raise _BadWaveError("has no WAV header (RIFF ... WAVE): give WAV files, raw samples say no rate")
    form: tuple[int, int, int, int] | None = None
    while True:
        chunk = file.read(8)
        if len(chunk) < 8:
            raise _BadWaveError(f"ends before its {'format' if form is None else 'samples'}: it is truncated")
        name, length = struct.unpack("<4sI", chunk)
        if name == b"fmt ":
            form = _form(file.read(length), length)
            file.seek(length % 2, 1)
        elif name == b"data":
            if form is None:
                raise _BadWaveError("has samples before their format: it is damaged")
            return _of_data(form, length, file.tell(), size)
        else:
            file.seek(length + length % 2, 1)


def _form(raw: bytes, length: int) -> tuple[int, int, int, int]:
    """Encoding, channels, rate and bits."""
    if length < 16 or len(raw) < length:
        raise _BadWaveError("ends in its header: it is truncated")
    code, channels, rate, _, align, bits = struct.unpack("<HHIIHH", raw[:16])
    if code == _EXTENSIBLE and length >= 40:
        code = struct.unpack("<H", raw[24:26])[0]
    if code not in (_PCM, _FLOAT):
        raise _BadWaveError(
            f"is encoded as {_CODECS.get(code, f'format {code}')}, which is not read: convert it to 16-bit PCM"
        )
    if bits not in ((8, 16, 24, 32) if code == _PCM else (32, 64)):
        raise _BadWaveError(f"has samples of {bits} bits: convert it to 16-bit PCM")
    if channels < 1 or align != channels * bits // 8:
        raise _BadWaveError(f"says {channels} channels in {align} bytes: its header is damaged")
    if not _RATES[0] <= rate <= _RATES[1]:
        raise _BadWaveError(f"says {rate} samples a second: its header is damaged")
    return code, channels, rate, bits


def _of_data(form: tuple[int, int, int, int], length: int, offset: int, size: int) -> WaveInfo:
    code, channels, rate, bits = form
    if length >= _OPEN_END:
        length = min(length, size - offset)
    if offset + length > size:
        raise _BadWaveError(f"is truncated: its header says {length} bytes of samples, and {size - offset} are there")
    return WaveInfo(rate, channels, bits, code == _FLOAT, offset, length // (channels * bits // 8))


def _decoded(raw: bytes, info: WaveInfo) -> NDArray[np.float64]:
    if info.floats:
        return np.frombuffer(raw, dtype=f"<f{info.bits // 8}").astype(np.float64)
    if info.bits == 8:
        return (np.frombuffer(raw, dtype=np.uint8).astype(np.float64) - 128) / 128
    if info.bits == 24:
        # The three bytes go to the top of four, so that the sign is in its place.
        wide = np.zeros((len(raw) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 3)
        raw, bits = wide.tobytes(), 32
    else:
        bits = info.bits
    found: NDArray[np.float64] = np.frombuffer(raw, dtype=f"<i{bits // 8}").astype(np.float64) / 2 ** (bits - 1)
    return found


def at_rate(samples: Samples, rate: int, wanted: int) -> Samples:
    """The sound at another number of samples a second (torchaudio's band-limited sinc interpolation).

    The result has ceil(n * wanted / rate) samples.
    """
    if rate == wanted:
        return samples
    import torch
    from torchaudio.functional import resample

    divisor = math.gcd(rate, wanted)
    found: Samples = resample(torch.from_numpy(samples), rate // divisor, wanted // divisor).numpy()
    return found

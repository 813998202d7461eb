"""Spoken words from a source and a filter, in numpy alone.

A voice is a sum of harmonics of its pitch, each as strong as the glottal slope and the resonances of the vocal tract
let it be (Fant, Acoustic Theory of Speech Production, 1960; Klatt, Software for a cascade/parallel formant
synthesizer, JASA 67, 1980); friction is noise shaped in the frequency domain. Good for trying a pipeline out. It is no
evidence of accuracy on real speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnnapps.plugins.keywords.phones import WORDS, Phone

RATE = 16_000
_FRAME = 80
"""Samples between two sets of targets: 5 ms."""
_GLIDE = 0.03
"""Seconds over which the targets of neighbouring sounds melt together."""
_BANDWIDTHS = (60.0, 90.0, 130.0, 200.0)
_FOURTH = 3500.0
_HIGHEST = 5000.0
"""No harmonics above."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Speaker:
    """A voice.

    Attributes:
        pitch: hertz.
        tract: what the formants are multiplied by; 1 for an adult male, more for a shorter vocal tract.
        pace: what durations are divided by.
        fall: how much of its pitch the voice loses over a word.
        breath: how much noise goes with the voice.
        damping: what the bandwidths of formants are multiplied by.

    """

    pitch: float
    tract: float
    pace: float
    fall: float
    breath: float
    damping: float


def random_speaker(rng: np.random.Generator) -> Speaker:
    """A voice between a low male and a child's."""
    size = rng.random()
    pitch = 85 * 2 ** (1.6 * size) * 2 ** (0.2 * rng.normal())
    tract = (0.92 + 0.28 * size) * (1 + 0.03 * rng.normal())
    return Speaker(
        float(np.clip(pitch, 70, 330)),
        float(np.clip(tract, 0.85, 1.3)),
        float(0.8 + 0.5 * rng.random()),
        float(0.25 * rng.random()),
        float(0.02 + 0.08 * rng.random()),
        float(0.8 + 0.8 * rng.random()),
    )


def resonance(hertz: Floats, formants: Floats, bandwidths: Floats) -> Floats:
    """|H(f)| of resonances in series, each F^2 / (F^2 - f^2 + j f B): 1 at f = 0, about F / B at f = F.

    Args:
        hertz: (..., K).
        formants: (..., M).
        bandwidths: (M,), in hertz.

    Returns:
        (..., K).

    """
    f, centre = hertz[..., :, None], formants[..., None, :]
    gain: Floats = np.prod(centre**2 / np.hypot(centre**2 - f**2, f * bandwidths), axis=-1)
    return gain


def spoken(word: str, speaker: Speaker, rng: np.random.Generator, rate: int = RATE) -> NDArray[np.float32]:
    """The word as the speaker says it this time: durations, pitch and formants vary a little; the peak is 0.5.

    Raises:
        KeyError: no such word.

    """
    phones = WORDS[word]
    lengths = [max(2, round(p.seconds / speaker.pace * (1 + 0.12 * rng.normal()) * RATE / _FRAME)) for p in phones]
    formants, voice, noise, bands = _targets(phones, lengths, speaker, rng)
    frames = len(voice)
    course = np.linspace(0, 1, frames)
    pitch = speaker.pitch * (1 + 0.05 * rng.normal()) * (1 - speaker.fall * course)
    pitch = pitch * (1 + 0.02 * np.sin(2 * np.pi * (3 * course + rng.random())))
    sound = _voiced(pitch, formants, voice, speaker, rng) + _friction(noise, bands, voice * speaker.breath, rng)
    sound *= _edges(len(sound))
    sound *= 0.5 / max(float(np.abs(sound).max()), 1e-9)
    found = sound.astype(np.float32)
    if rate != RATE:
        from bnnapps.plugins.keywords.waves import at_rate

        return at_rate(found, RATE, rate)
    return found


def _targets(
    phones: Sequence[Phone], lengths: Sequence[int], speaker: Speaker, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats]:
    """For each frame the formants (T, 4), the strengths of voice and noise (T,), and the band of the noise (T, 2)."""
    shift = speaker.tract * (1 + 0.03 * rng.normal(size=3))
    rows, voice, noise, bands = [], [], [], []
    for phone, length in zip(phones, lengths, strict=True):
        end = phone.start if phone.end is None else phone.end
        course = np.linspace(0, 1, length)[:, None]
        rows.append((np.array(phone.start) * (1 - course) + np.array(end) * course) * shift)
        voice.append(np.full(length, phone.voice))
        noise.append(np.full(length, phone.noise))
        bands.append(np.tile([phone.band[0] * speaker.tract**0.5, phone.band[1]], (length, 1)))
    three = np.concatenate(rows)
    four = np.concatenate([three, np.full((len(three), 1), _FOURTH * speaker.tract)], axis=1)
    blend = round(_GLIDE * RATE / _FRAME)
    return (
        np.stack([_smooth(four[:, i], blend) for i in range(4)], axis=1),
        _smooth(np.concatenate(voice), 3),
        _smooth(np.concatenate(noise), 3),
        np.concatenate(bands),
    )


def _smooth(x: Floats, width: int) -> Floats:
    """The running mean over `width` frames; what lies beyond the ends is as the ends are."""
    width += 1 - width % 2
    padded = np.pad(x, width // 2, mode="edge")
    found: Floats = np.convolve(padded, np.full(width, 1 / width), mode="valid")
    return found


def _voiced(pitch: Floats, formants: Floats, voice: Floats, speaker: Speaker, rng: np.random.Generator) -> Floats:
    """Harmonics, their strengths interpolated between frames; glottal slope and lips together fall with 1 / f."""
    count = int(_HIGHEST / pitch.min())
    orders = np.arange(1, count + 1)
    hertz = pitch[:, None] * orders
    gains = resonance(hertz, formants, np.array(_BANDWIDTHS) * speaker.damping) / orders * voice[:, None]
    gains[hertz > _HIGHEST] = 0
    at = np.arange(len(pitch) * _FRAME) / _FRAME
    places = np.arange(len(pitch)) + 0.5
    phase = 2 * np.pi * np.cumsum(np.interp(at, places, pitch)) / RATE
    sound = np.zeros(len(at))
    for i, order in enumerate(orders):
        sound += np.interp(at, places, gains[:, i]) * np.sin(order * phase + 2 * np.pi * rng.random())
    return sound


def _friction(noise: Floats, bands: Floats, breath: Floats, rng: np.random.Generator) -> Floats:
    """White noise through windows of 10 ms that overlap by half, each shaped to its band; breath goes through all."""
    samples = len(noise) * _FRAME
    padded = np.zeros(samples + 2 * _FRAME)
    hertz = np.fft.rfftfreq(2 * _FRAME, 1 / RATE)
    window = np.sin(np.pi * (np.arange(2 * _FRAME) + 0.5) / (2 * _FRAME)) ** 2
    middle, width = bands[:, :1], bands[:, 1:]
    shape = noise[:, None] * np.exp(-0.5 * ((hertz - middle) / (0.5 * width)) ** 2) + breath[:, None]
    white = np.fft.rfft(rng.normal(size=(len(noise), 2 * _FRAME)), axis=1)
    pieces = np.fft.irfft(white * shape, axis=1) * window
    for i, piece in enumerate(pieces):
        padded[i * _FRAME : (i + 2) * _FRAME] += piece
    found: Floats = padded[_FRAME // 2 : _FRAME // 2 + samples]
    return found


def _edges(samples: int) -> Floats:
    """Rise and fall over 5 ms."""
    ramp = np.minimum(1, (np.arange(samples) + 1) / _FRAME)
    found: Floats = ramp * ramp[::-1]
    return found


def in_clip(
    sound: NDArray[np.float32], rng: np.random.Generator, seconds: float = 1.0, rate: int = RATE
) -> NDArray[np.float32]:
    """The sound at a random place of a clip, at a random loudness, with soft noise; a longer one loses its ends."""
    length = round(seconds * rate)
    clip = (0.002 + 0.01 * rng.random()) * rng.normal(size=length)
    cut = sound[max(0, (len(sound) - length) // 2) :][:length]
    start = int(rng.random() * (length - len(cut) + 1))
    clip[start : start + len(cut)] += (0.4 + 1.2 * rng.random()) * cut
    return np.clip(clip, -1, 1).astype(np.float32)

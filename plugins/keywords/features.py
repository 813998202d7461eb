"""What a network hears: log-mel bands and cepstral coefficients, by torchaudio."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bnnapps.validation import Record


class FeatureSettings(Record):
    """How sound becomes a picture of bands over time. The defaults are BiFSMN's."""

    kind: Literal["log_mel", "mfcc"] = "log_mel"
    """`log_mel`: 10 log10 of mel bands; `mfcc`: the cosine transform of those."""
    rate: int = Field(default=16_000, ge=1000, le=48_000)
    """Samples a second; sound of another rate is resampled."""
    window: int = Field(default=2048, ge=16)
    """Samples of a window (Hann), and of the Fourier transform."""
    hop: int = Field(default=512, ge=1)
    """Samples between windows. The sound is mirrored at its ends, so n samples give 1 + n // hop windows."""
    mels: int = Field(default=32, ge=2)
    """Bands, equally wide in mel (HTK's formula)."""
    coefficients: int = Field(default=40, ge=1)
    """For `mfcc`: how many are kept."""
    normalized: bool = True
    """Divide the transform by the root of the window's energy, as BiFSMN does."""
    low: float = Field(default=0.0, ge=0)
    """Where the lowest band begins, in hertz."""
    high: float | None = Field(default=None, gt=0)
    """Where the highest band ends; by default half the rate."""

    @model_validator(mode="after")
    def _fits_together(self) -> FeatureSettings:
        if self.hop > self.window:
            raise ValueError(f"hop is {self.hop} and window {self.window}: sound between windows would be lost")
        if self.kind == "mfcc" and self.coefficients > self.mels:
            raise ValueError(f"coefficients is {self.coefficients}, but there are only {self.mels} mels")
        top = self.rate / 2 if self.high is None else self.high
        if not self.low < top <= self.rate / 2:
            raise ValueError(f"bands from {self.low:g} to {top:g} Hz: give 0 <= low < high <= {self.rate / 2:g}")
        return self

    @property
    def rows(self) -> int:
        """Bands or coefficients of a picture."""
        return self.mels if self.kind == "log_mel" else self.coefficients

    def columns(self, samples: int) -> int:
        """Windows of a picture of so many samples."""
        return 1 + samples // self.hop


class Features(nn.Module):
    """Sound (N, samples) to pictures (N, 1, rows, columns), float32.

    P = |STFT|^2 (divided by sum(w^2) if normalized), M = B P with triangular bands B, log-mel 10 log10(max(M, 1e-10));
    `mfcc` is the orthonormal DCT-II of log-mel over the bands, whose floor is 80 dB under the loudest of a picture.

    Raises:
        ValueError: sound that is shorter than half a window, which cannot be mirrored at its ends.

    """

    def __init__(self, settings: FeatureSettings) -> None:
        super().__init__()
        from torchaudio import transforms

        self.settings = settings
        options = {
            "n_fft": settings.window,
            "hop_length": settings.hop,
            "n_mels": settings.mels,
            "f_min": settings.low,
            "f_max": settings.high,
            "normalized": settings.normalized,
        }
        self.extract: nn.Module
        if settings.kind == "log_mel":
            self.extract = nn.Sequential(
                transforms.MelSpectrogram(settings.rate, **options), transforms.AmplitudeToDB("power")
            )
        else:
            self.extract = transforms.MFCC(settings.rate, settings.coefficients, melkwargs=options)

    def forward(self, sound: Tensor) -> Tensor:
        """The pictures."""
        if sound.shape[-1] <= self.settings.window // 2:
            raise ValueError(
                f"{sound.shape[-1]} samples are too few for windows of {self.settings.window}: give at least "
                f"{self.settings.window // 2 + 1}"
            )
        # With a channel of its own each clip has a floor of its own: otherwise the loudest of the batch would set it.
        pictures: Tensor = self.extract(sound.unsqueeze(1))
        return pictures


def standardized(pictures: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mean) / std, with numbers of the training set for each row: (rows,) each."""
    return (pictures - mean.reshape(-1, 1)) / std.reshape(-1, 1)


@torch.no_grad()
def row_statistics(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each row of (N, 1, rows, columns), (rows,) each; a constant row gets the deviation 1."""
    wide = pictures.double()
    mean, std = wide.mean(dim=(0, 1, 3)), wide.std(dim=(0, 1, 3), correction=0)
    return mean.float(), torch.where(std > 1e-6, std, torch.ones_like(std)).float()

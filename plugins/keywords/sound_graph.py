"""A network with its features in front, in operators that ONNX has: sound in, logits out."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.nn.front import Front
from bnnapps.plugins.keywords.features import Features, standardized
from bnnapps.plugins.keywords.hearing import Hearing

_FLOOR = 1e-10
"""Power under which torchaudio takes no logarithm."""
_ROUNDING = 1e-5
"""What rounding may add to the amplitude of a band, as a share of the loudest band of its frame."""


class Decibels(Front):
    """Decibels of mel bands, as `Features` has them: 10 log10(max(B |STFT(x)|^2, 1e-10)), for `mfcc` with its floor.

    Windows whose length is a power of two become ONNX's STFT. Other lengths are multiplied with sines and cosines: on
    them ONNX Runtime's transform errs a hundred times as much, and takes longer. B is a constant, because the bands of
    ONNX's MelWeightMatrix begin and end at whole lines of the spectrum, and those of torchaudio between them.

    Shapes: (N, samples) to (N, 1, mels, frames).
    """

    window: Tensor
    bands: Tensor
    waves: Tensor

    def __init__(self, features: Features) -> None:
        super().__init__()
        settings, extract = features.settings, features.extract
        self.length, self.hop = settings.window, settings.hop
        spectrum: Any = extract.MelSpectrogram if settings.kind == "mfcc" else extract[0]  # type: ignore[index]
        self.range: float | None = extract.amplitude_to_DB.top_db if settings.kind == "mfcc" else None  # type: ignore[union-attr, assignment]
        window = spectrum.spectrogram.window.detach().clone()
        energy = float(window.double().square().sum()) if settings.normalized else 1.0
        bands = spectrum.mel_scale.fb.detach() / energy
        self.transform = self.length & (self.length - 1) == 0
        if self.transform:
            self.register_buffer("window", window)
        else:
            used = bands.any(dim=1).nonzero().flatten()
            lines = torch.arange(int(used[0]), int(used[-1]) + 1)
            bands = bands[lines]
            self.register_buffer("waves", _waves(window, lines))
        self.register_buffer("bands", bands.contiguous())

    def forward(self, sound: Tensor) -> Tensor:
        """The decibels."""
        power = self._power(sound)
        found = 10 * (power.transpose(1, 2) @ self.bands).clamp(min=_FLOOR).log10().transpose(1, 2).unsqueeze(1)
        if self.range is not None:
            found = torch.maximum(found, found.amax(dim=(2, 3), keepdim=True) - self.range)
        return found

    def _power(self, sound: Tensor) -> Tensor:
        """(N, lines, frames)."""
        if self.transform:
            spectrum = torch.stft(sound, self.length, self.hop, window=self.window, center=True, return_complex=True)
            return torch.view_as_real(spectrum).square().sum(-1)
        half = self.length // 2
        both = F.conv1d(F.pad(sound.unsqueeze(1), (half, half), mode="reflect"), self.waves, stride=self.hop)
        cosines, sines = both.square().chunk(2, dim=1)
        return cosines + sines

    @torch.no_grad()
    def excess(self, found: Tensor, expected: Tensor) -> float:
        """A transform rounds relative to the loudest of a frame, so amplitudes are compared, not their decibels."""
        ours, theirs = (10 ** (decibels.double() / 20) for decibels in (expected, found))
        allowed = _ROUNDING * ours.amax(dim=2, keepdim=True)
        return float(((theirs - ours).abs() / allowed).max().nan_to_num(nan=math.inf))


def _waves(window: Tensor, lines: Tensor) -> Tensor:
    """Cosines, then sines, of lines of the spectrum under a window: (2 lines, 1, length)."""
    length = len(window)
    angles = 2 * math.pi / length * torch.outer(lines.double(), torch.arange(length).double())
    return (torch.cat([angles.cos(), -angles.sin()]) * window.double()).float().unsqueeze(1)


class SoundNetwork(nn.Module):
    """What `hearing` and a network do one after the other, for an export.

    Shapes: (N, samples) in [-1, 1] to (N, classes).
    """

    mean: Tensor
    std: Tensor
    cosines: Tensor | None

    def __init__(self, hearing: Hearing, network: nn.Module) -> None:
        super().__init__()
        features = hearing.features
        self.decibels = Decibels(features)
        mfcc = features.settings.kind == "mfcc"
        self.register_buffer("cosines", features.extract.dct_mat.detach().clone() if mfcc else None)  # type: ignore[operator]
        self.register_buffer("mean", hearing.mean.clone())
        self.register_buffer("std", hearing.std.clone())
        self.network = network

    def forward(self, sound: Tensor) -> Tensor:
        """Logits."""
        pictures = self.decibels(sound)
        if self.cosines is not None:
            pictures = (pictures.transpose(2, 3) @ self.cosines).transpose(2, 3)
        logits: Tensor = self.network(standardized(pictures, self.mean, self.std))
        return logits

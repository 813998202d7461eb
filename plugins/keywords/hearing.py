"""From sound to what a network takes: features, brought to the mean and deviation of the training set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.errors import DataError
from bnnapps.plugins.keywords.clips import Clips
from bnnapps.plugins.keywords.features import Features, FeatureSettings, row_statistics, standardized

_MEASURED = 1000
"""Mean and deviation come from at most so many training clips."""


class Hearing(nn.Module):
    """Sound (N, samples) to standardized pictures (N, 1, rows, columns).

    Attributes:
        mean, std: of each row of the training set's pictures, (rows,).

    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: FeatureSettings, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.features = Features(settings)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @torch.no_grad()
    def forward(self, sound: Tensor) -> Tensor:
        """The pictures."""
        return standardized(self.features(sound), self.mean, self.std)


@torch.no_grad()
def hearing_of(clips: Clips, settings: FeatureSettings) -> Hearing:
    """Measured on clips as they are, evenly chosen.

    Raises:
        DataError: all of them sound the same, as silence does.

    """
    step = max(1, len(clips) // _MEASURED)
    features = Features(settings)
    chosen = range(0, len(clips), step)
    pictures = [features(torch.from_numpy(clips.sound(i))[None]) for i in chosen]
    heard = torch.cat(pictures)
    if bool((heard == heard.flatten()[0]).all()):
        raise DataError(f"the {len(pictures)} training clips that were heard are silent: there is no word to learn")
    return Hearing(settings, *row_statistics(heard))

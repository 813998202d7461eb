"""The noise that FDA-BNN adds to codes in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.nn import functional as BF
from bnnapps.nn.progress import Scheduled

_NARROWER = 64
_SMALLEST = 4


class NoiseAdaptation(nn.Module, Scheduled):
    """a (W2 relu(W1 v) + 0.1 sin(v)) for vectors v, without biases (FDA-BNN, Xu et al., NeurIPS 2021).

    The hidden layer has 1/64 of the features (4, where that is none). a falls from 0.1 to 0 over the training
    (`noise_weight`), so the network that is left is purely binary.

    Shapes: (..., features) -> (..., features).
    """

    amount: Tensor

    def __init__(self, features: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        hidden = features // _NARROWER if features >= _NARROWER else _SMALLEST
        self.first = nn.Linear(features, hidden, bias=False, device=device, dtype=dtype)
        self.second = nn.Linear(hidden, features, bias=False, device=device, dtype=dtype)
        self.register_buffer("amount", torch.tensor(BF.noise_weight(0.0), device=device))

    def set_progress(self, fraction: float) -> None:
        """Let the noise fade."""
        self.amount.fill_(BF.noise_weight(fraction))

    def forward(self, v: Tensor) -> Tensor:
        """The noise for v."""
        learned: Tensor = self.second(torch.relu(self.first(v)))
        return self.amount * (learned + 0.1 * torch.sin(v))


class FilterNoise(NoiseAdaptation):
    """The noise of a weight: each filter (dimension 0) is one vector."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight[0].numel(), weight.device, weight.dtype)

    def forward(self, v: Tensor) -> Tensor:
        """The noise for a weight."""
        return super().forward(v.flatten(1)).view_as(v)


class ChannelNoise(NoiseAdaptation):
    """The noise of an activation: the channels at each position are one vector."""

    def __init__(
        self,
        channels: int,
        channel_dim: int,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, device, dtype)
        self.channel_dim = channel_dim

    def forward(self, v: Tensor) -> Tensor:
        """The noise for a map."""
        return super().forward(v.movedim(self.channel_dim, -1)).movedim(-1, self.channel_dim)

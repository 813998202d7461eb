"""The ends of a network of lookup tables: numbers become bits, and bits become scores."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Placement = Literal["distributive", "uniform"]


class Thermometer(nn.Module):
    """Each feature against thresholds of its own: code t is +1 where x > threshold[t], else -1.

    `distributive` (Bacellar et al., ESANN 2022): the thresholds of a feature are the quantiles t / (bits + 1) of its
    values that `fit` is given, so that each code of a feature whose values differ tells as much; `uniform`: they divide
    the range from the smallest to the largest of all values evenly, so that pixels of 8 bits meet
    round numbers (64, 128 and 192 with 3 bits), which take one gate or none. Before `fit` they divide [-1, 1].

    Shapes: (N, ...) with `features` numbers each -> (N, features * bits), the codes of a feature together.

    Args:
        features: how many numbers come in.
        bits: thresholds of each.
        placement: where `fit` puts them.

    """

    thresholds: Tensor

    def __init__(self, features: int, bits: int = 3, placement: Placement = "distributive") -> None:
        super().__init__()
        if features < 1 or bits < 1:
            raise ValueError(f"features is {features} and bits is {bits}: both must be at least 1")
        if placement not in ("distributive", "uniform"):
            raise ValueError(f"placement is {placement!r}: it must be 'distributive' or 'uniform'")
        self.features, self.bits, self.placement = features, bits, placement
        even = torch.arange(1, bits + 1) / (bits + 1) * 2 - 1
        self.register_buffer("thresholds", even.expand(features, bits).clone())

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Place the thresholds by the given examples, (N, ...)."""
        rows = x.reshape(len(x), -1).to(self.thresholds)
        shares = torch.arange(1, self.bits + 1, device=rows.device) / (self.bits + 1)
        if self.placement == "uniform":
            low, high = rows.min(), rows.max()
            self.thresholds.copy_((low + (high - low) * shares).expand_as(self.thresholds))
            return
        ordered = rows.sort(dim=0).values
        places = (shares * len(rows)).long().clamp(max=len(rows) - 1)
        self.thresholds.copy_(ordered[places].t())

    def forward(self, x: Tensor) -> Tensor:
        """Codes."""
        rows = x.reshape(x.shape[0], self.features, 1)
        codes = torch.where(rows > self.thresholds, 1.0, -1.0).to(x.dtype)
        return codes.reshape(x.shape[0], self.features * self.bits)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.features}, bits={self.bits}, placement={self.placement!r}"


class GroupSum(nn.Module):
    """How many codes of each class's group are +1, over a temperature: (N, m) -> (N, classes).

    Group c holds the m / classes codes from c m / classes on.

    Args:
        classes: how many groups.
        temperature: divides the counts.

    """

    def __init__(self, classes: int, temperature: float = 1.0) -> None:
        super().__init__()
        if classes < 1 or temperature <= 0:
            raise ValueError(f"classes is {classes} and temperature is {temperature}: both must be positive")
        self.classes, self.temperature = classes, temperature

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        groups = x.reshape(x.shape[0], self.classes, -1)
        return ((groups + 1) / 2).sum(dim=-1) / self.temperature

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.classes}, temperature={self.temperature:g}"


def fit_thermometers(model: nn.Module, examples: Tensor) -> int:
    """Place the thresholds of every `Thermometer` that takes the model's input; how many there are."""
    found = [module for module in model.modules() if isinstance(module, Thermometer)]
    for thermometer in found:
        thermometer.fit(examples)
    return len(found)

"""BinaryDenseNet-28, -37 and -45, and MeliusNet-22 and -29."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.models.registry import ModelEntry, one_of, register_model
from bnnapps.models.weights import initialized
from bnnapps.nn.blocks import DenseLayer, ImprovementLayer, Transition

GROWTH = 64


class DenseNet(nn.Module):
    """Stem, stages with real transitions between, BatchNorm, ReLU, average over positions, linear layer.

    Args:
        stem: gives `GROWTH` channels.
        depths: how many layers (or pairs) each stage has.
        transitions: channels behind each transition, one fewer than stages; `None` gives them by `reductions`.
        reductions: by how much each transition divides, rounded to a multiple of 32.
        improve: whether each dense layer is followed by an improvement layer (MeliusNet).
        num_classes: outputs.

    """

    def __init__(
        self,
        stem: nn.Sequential,
        depths: Sequence[int],
        num_classes: int,
        transitions: Sequence[int] | None = None,
        reductions: Sequence[float] = (),
        improve: bool = False,
    ) -> None:
        super().__init__()
        self.stem = stem
        channels = GROWTH
        stages: list[nn.Module] = []
        between: list[nn.Module] = []
        for number, depth in enumerate(depths):
            layers: list[nn.Module] = []
            for _ in range(depth):
                layers.append(DenseLayer(channels, GROWTH))
                channels += GROWTH
                if improve:
                    layers.append(ImprovementLayer(channels, GROWTH))
            stages.append(nn.Sequential(*layers))
            if number < len(depths) - 1:
                width = round(channels // reductions[number] / 32) * 32 if transitions is None else transitions[number]
                between.append(Transition(channels, width))
                channels = width
        self.stages = nn.ModuleList(stages)
        self.transitions = nn.ModuleList(between)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialized(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, num_classes)."""
        x = self.stem(x)
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number < len(self.transitions):
                x = self.transitions[number](x)
        out: Tensor = self.fc(torch.flatten(self.pool(self.relu(self.bn(x))), 1))
        return out


def _unit(in_channels: int, channels: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, channels, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def binary_densenet(
    depths: Sequence[int], reductions: Sequence[float], num_classes: int, in_channels: int, stem: str = "imagenet"
) -> DenseNet:
    """A BinaryDenseNet; `stem` is "imagenet" (7x7, stride 2, pooling) or "cifar" (one 3x3 convolution)."""
    one_of(stem, ("imagenet", "cifar"), "stem")
    if stem == "imagenet":
        first = nn.Sequential(*_unit(in_channels, GROWTH, 7, 2), nn.MaxPool2d(3, 2, 1))
    else:
        first = nn.Sequential(nn.Conv2d(in_channels, GROWTH, 3, padding=1, bias=False))
    return DenseNet(first, depths, num_classes, reductions=reductions)


def meliusnet(
    depths: Sequence[int], transitions: Sequence[int], num_classes: int, in_channels: int, stem: str = "imagenet"
) -> DenseNet:
    """A MeliusNet; `stem` is "imagenet" (three 3x3 convolutions, two of them grouped, stride 4 in all) or "cifar"."""
    one_of(stem, ("imagenet", "cifar"), "stem")
    if stem == "imagenet":
        units = [*_unit(in_channels, 32, 3, 2), *_unit(32, 32, 3, groups=4), *_unit(32, GROWTH, 3, groups=8)]
        first = nn.Sequential(*units, nn.MaxPool2d(2, ceil_mode=True))
    else:
        first = nn.Sequential(nn.Conv2d(in_channels, GROWTH, 3, padding=1, bias=False))
    return DenseNet(first, depths, num_classes, transitions, improve=True)


def clipped(limit: float, *keep: tuple[str, str], **more: Any) -> dict[str, Any]:
    """Rules for plain signs, whose gradient passes up to `limit`; what `keep` matches stays real, with a reason.

    Latent weights are clipped to the limit after each step.
    """
    changes = {
        "weight.estimator": {"name": "clip", "limit": limit},
        "weight.constraint_limit": limit,
        "activation.estimator.limit": limit,
    } | more
    return {
        "method": "bnn",
        "overrides": changes,
        "rules": [{"match": match, "keep": reason} for match, reason in keep],
    }


_METHOD = clipped(1.3, ("stem.*", "the stem stays real"), ("transitions.*", "transitions stay real"))
_DENSE = "Bethge, Yang, Bornstein, Meinel: Back to Simplicity: How to Train Accurate BNNs from Scratch?, 2019"
_MELIUS = "Bethge, Bartz, Yang, Chen, Meinel: MeliusNet: An Improved Network Architecture for BNNs, WACV 2021"

for _name, _depths, _reductions in (
    ("28", (6, 6, 6, 5), (2.7, 2.7, 2.2)),
    ("37", (6, 8, 12, 6), (3.3, 3.3, 4.0)),
    ("45", (6, 12, 14, 8), (2.7, 3.3, 4.0)),
):
    register_model(
        ModelEntry(
            f"binary_densenet{_name}",
            f"BinaryDenseNet-{_name}: 3x3 convolutions that add 64 channels each",
            _DENSE,
            partial(binary_densenet, _depths, _reductions),
            (224, 224),
            1000,
            _METHOD,
        )
    )

for _name, _depths, _widths in (
    ("22", (4, 5, 4, 4), (160, 224, 256)),
    ("29", (4, 6, 8, 6), (128, 192, 256)),
):
    register_model(
        ModelEntry(
            f"meliusnet{_name}",
            f"MeliusNet-{_name}: each dense layer is followed by one that improves its 64 channels",
            _MELIUS,
            partial(meliusnet, _depths, _widths),
            (224, 224),
            1000,
            _METHOD,
        )
    )

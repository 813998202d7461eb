"""QuickNet, small, normal and large."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bnnapps.models.densenet import clipped
from bnnapps.models.registry import ModelEntry, register_model
from bnnapps.models.weights import initialized
from bnnapps.nn.blocks import QuickBlock, QuickTransition


class QuickNet(nn.Module):
    """A light real stem, sections of residual 3x3 convolutions, real 1x1 transitions (Bannink et al., MLSys 2021).

    Args:
        depths: blocks in each section.
        widths: channels of each section.
        num_classes: outputs.
        in_channels: of the images.

    """

    def __init__(self, depths: Sequence[int], widths: Sequence[int], num_classes: int, in_channels: int) -> None:
        super().__init__()
        first, narrow = widths[0], widths[0] // 4
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, narrow, 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(inplace=True),
            nn.Conv2d(narrow, narrow, 3, 2, padding=1, groups=narrow, bias=False),
            nn.BatchNorm2d(narrow, affine=False),
            nn.Conv2d(narrow, first, 1, bias=False),
            nn.BatchNorm2d(first),
        )
        sections: list[nn.Module] = []
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if number:
                sections.append(QuickTransition(widths[number - 1], width))
            sections.append(nn.Sequential(*(QuickBlock(width) for _ in range(depth))))
        self.sections = nn.Sequential(*sections)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], num_classes)
        initialized(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, num_classes)."""
        out: Tensor = self.fc(torch.flatten(self.pool(self.relu(self.sections(self.stem(x)))), 1))
        return out


_METHOD = clipped(
    1.25,
    ("stem.*", "the stem stays real"),
    (r"re:sections\.\d+\.conv", "transitions stay real"),
    pad_value=1,
)

for _name, _title, _depths, _widths in (
    ("quicknet_small", "QuickNet Small, 32 to 512 channels", (4, 4, 4, 4), (32, 64, 256, 512)),
    ("quicknet", "QuickNet, 64 to 512 channels", (4, 4, 4, 4), (64, 128, 256, 512)),
    ("quicknet_large", "QuickNet Large, 32 blocks", (6, 8, 12, 6), (64, 128, 256, 512)),
):
    register_model(
        ModelEntry(
            _name,
            _title,
            "Bannink et al.: Larq Compute Engine, MLSys 2021",
            partial(QuickNet, _depths, _widths),
            (224, 224),
            1000,
            _METHOD,
        )
    )

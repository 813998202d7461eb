"""Two other small networks for keywords: TC-ResNet and DS-CNN."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class _TemporalBlock(nn.Module):
    """Two convolutions over time with a shortcut, which is 1x1 where the number of channels or frames changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(before, after, 9, stride, 4, bias=False)
        self.norm1 = nn.BatchNorm1d(after)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv1d(after, after, 9, 1, 4, bias=False)
        self.norm2 = nn.BatchNorm1d(after)
        self.downsample = None
        if before != after or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv1d(before, after, 1, stride, bias=False), nn.BatchNorm1d(after), nn.ReLU()
            )
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        main = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        short = x if self.downsample is None else self.downsample(x)
        found: Tensor = self.act2(main + short)
        return found


class TCResNet(nn.Module):
    """TC-ResNet-8: bands are channels, and convolutions of width 9 run along time (Choi et al., Interspeech 2019).

    Shapes: (N, 1, rows, T) to (N, classes).

    Args:
        classes: of the output.
        rows: bands or coefficients of the picture (40 MFCC in the paper).
        width: multiplies the published numbers of channels, 16, 24, 32 and 48.

    """

    def __init__(self, classes: int, rows: int = 40, width: float = 1.0) -> None:
        super().__init__()
        channels = [max(1, round(width * c)) for c in (16, 24, 32, 48)]
        self.stem = nn.Conv1d(rows, channels[0], 3, 1, 1, bias=False)
        self.blocks = nn.Sequential(*(_TemporalBlock(a, b, 2) for a, b in pairwise(channels)))
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(channels[-1], classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits."""
        maps = self.blocks(self.stem(pictures.squeeze(1)))
        logits: Tensor = self.classifier(self.dropout(maps.mean(dim=2)))
        return logits


class _Separable(nn.Sequential):
    """A depthwise 3x3 convolution and one of 1x1, each with norm and activation."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, before, 3, 1, 1, groups=before, bias=False),
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, after, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        )


class DSCNN(nn.Module):
    """DS-CNN: one wide convolution, four depthwise separable ones, the mean, a linear head.

    Zhang et al., Hello Edge: Keyword Spotting on Microcontrollers, 2017; 64 channels are its small version.
    Shapes: (N, 1, rows, T) to (N, classes).
    """

    def __init__(self, classes: int, channels: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, (4, 10), 2, (1, 4), bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(_Separable(channels, channels) for _ in range(blocks)))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits."""
        maps = self.blocks(self.stem(pictures))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits

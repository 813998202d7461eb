"""DAD-Net: an encoder, a dilated bottleneck and a decoder for driveable areas."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.models.weights import initialized
from bnnapps.nn.blocks import ConvUnit

DILATIONS = (2, 4, 8, 16)
METHOD: dict[str, Any] = {"method": "xnor", "overrides": {"activation.scale": "none"}}
"""As published: alpha sign(W) times sign(x) in encoder, bottleneck and decoder; the first and the last layer real."""


class DADNet(nn.Module):
    """Classes of pixels by 3x3 convolutions alone (Frickenstein et al.: Binary DAD-Net, IV 2020).

    The encoder halves the map four times, to 1/16; the bottleneck sees further by dilations, where a fifth halving
    would have lost places; the decoder doubles it four times (each pixel repeated, then convolved); a 1x1 convolution
    scores each pixel. The numbers of layers and channels are not public: these are ours, chosen so that the binary
    network of the default width takes the published 0.9 MB.

    Args:
        num_classes: outputs.
        in_channels: of the images.
        width: channels of the first stage; the next have twice and four times as many.
        dilations: one for each convolution of the bottleneck.

    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, width: int = 64, dilations: tuple[int, ...] = DILATIONS
    ) -> None:
        super().__init__()
        if width < 1 or not dilations or min(dilations) < 1:
            raise UsageError(f"dadnet: width is {width} and dilations {dilations}: all must be at least 1")
        one, two, four = width, 2 * width, 4 * width
        stages = ((one, one), (two, two), (four, four, four), (four, four, four))
        encoder: list[nn.Module] = []
        channels = in_channels
        for stage in stages:
            for after in stage:
                encoder.append(ConvUnit(channels, after))
                channels = after
            encoder.append(nn.MaxPool2d(2))
        self.encoder = nn.Sequential(*encoder)
        self.bottleneck = nn.Sequential(*(ConvUnit(channels, channels, dilation=d) for d in dilations))
        decoder: list[nn.Module] = []
        for after in (four, two, one, one):
            decoder += [nn.Upsample(scale_factor=2, mode="nearest"), ConvUnit(channels, after)]
            channels = after
        self.decoder = nn.Sequential(*decoder)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        self.layer_roles = {"first": ["encoder.0.conv"], "heads": ["classifier"]}
        initialized(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, num_classes, H, W); sides that are no multiple of 16 are interpolated to."""
        logits: Tensor = self.classifier(self.decoder(self.bottleneck(self.encoder(x))))
        if logits.shape[-2:] != x.shape[-2:]:
            logits = F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)
        return logits

"""Networks that give a score for each class and pixel."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

STAGES = {"fcn32s": 1, "fcn16s": 2, "fcn8s": 3}
"""How many stages each head reads."""
_RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}


class FCNHead(nn.Module):
    """A 1x1 convolution on each of the last stages; from the smallest on, scores are enlarged and added.

    FCN-32s, -16s and -8s (Long, Shelhamer, Darrell, CVPR 2015) read one, two and three stages. Enlarging is bilinear,
    as theirs is before it is trained.

    Args:
        channels: of the stages that are read, the smallest map first.
        num_classes: outputs.

    """

    def __init__(self, channels: list[int], num_classes: int) -> None:
        super().__init__()
        self.scores = nn.ModuleList(nn.Conv2d(c, num_classes, 1) for c in channels)
        for conv in self.scores:
            nn.init.normal_(conv.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The maps of a backbone, the largest first, to scores of the size of the largest one that is read."""
        total: Tensor | None = None
        for score, x in zip(self.scores, reversed(maps), strict=False):
            own = score(x)
            total = own if total is None else own + enlarged(total, own)
        assert total is not None
        return total


class DeepLabHead(nn.Module):
    """A pyramid of dilated convolutions, a 3x3 convolution and scores: torchvision's head of DeepLabv3.

    Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution, 2017; dilations 12, 24, 36 at output stride 8, half
    as large at 16.
    """

    def __init__(self, channels: int, num_classes: int, output_stride: int) -> None:
        super().__init__()
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead as Published

        self.classifier: nn.Sequential = Published(channels, num_classes, _RATES[output_stride])

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The maps of a backbone to scores of the size of its last one."""
        scores: Tensor = self.classifier(maps[-1])
        return scores


class Segmenter(nn.Module):
    """A backbone with a head on it.

    Args:
        backbone: gives the maps of its stages.
        head: gives scores from them.
        heads: the names in `head` of the layers that put out the scores.

    """

    def __init__(self, backbone: nn.Module, head: nn.Module, heads: list[str]) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.layer_roles: dict[str, list[str]] = {"first": ["backbone"], "heads": [f"head.{name}" for name in heads]}

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to logits (N, classes, H, W)."""
        return enlarged(self.head(self.backbone(x)), x)


class TorchvisionSegmenter(nn.Module):
    """A segmentation network of torchvision that gives its logits alone, as a tensor.

    Args:
        network: from torchvision.models.segmentation, without an auxiliary head.

    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        low = type(network).__name__ == "LRASPP"
        names = ("classifier.low_classifier", "classifier.high_classifier") if low else ("classifier.4",)
        self.layer_roles = {"first": ["network.backbone"], "heads": [f"network.{name}" for name in names]}

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to logits (N, classes, H, W)."""
        logits: Tensor = self.network(x)["out"]
        return logits


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear at the height and width of another map."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)

"""The maps that a detector's heads read, with what lies on them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign


@dataclass(frozen=True)
class Maps:
    """Feature maps of a batch.

    Attributes:
        levels: (N, C, H, W) each.
        batch: height and width of the padded batch that the maps are of.
        sizes: height and width of each image within it.
        objects: (g, 4) of each image, in pixels.
        regions: (r, 4) of each image, the region proposals that the heads saw; `None`: there are none.

    """

    levels: list[Tensor]
    batch: tuple[int, int]
    sizes: list[tuple[int, int]]
    objects: list[Tensor]
    regions: list[Tensor] | None = None

    def aligned(self, regions: Sequence[Tensor], size: int) -> Tensor:
        """The features of regions, (R, C, size, size), each from the level that fits its area (RoIAlign with FPN)."""
        names = [str(i) for i in range(len(self.levels))]
        pool = MultiScaleRoIAlign(names, size, sampling_ratio=2)
        maps = OrderedDict(zip(names, self.levels, strict=True))
        # Scales follow from the largest size, and maps are of the padded batch.
        result: Tensor = pool(maps, list(regions), [self.batch] * len(self.sizes))
        return result

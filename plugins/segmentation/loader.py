"""Batches of images and masks for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.classification.augment import Normalize
from bnnapps.plugins.segmentation.augment import Size, image_rng, jittered, mirrored, scaled_crop
from bnnapps.plugins.segmentation.config import SegmentationData
from bnnapps.plugins.segmentation.sets import Part
from bnnapps.training.loader import EpochLoader

Batch = dict[str, Tensor]


class Examples:
    """Images with masks, changed as training asks.

    Args:
        part: the images.
        settings: how they are changed; `None`: they are not.
        crop: what `scale_crop` cuts out.
        seed: of the changes.

    """

    def __init__(self, part: Part, settings: SegmentationData | None, crop: Size | None, seed: int) -> None:
        self.part, self.settings, self.crop, self.seed = part, settings, crop, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.part.at(index)
        settings = self.settings
        if settings is None:
            return image, mask
        rng = image_rng(self.seed, self.epoch, index)
        if settings.augment == "scale_crop" and self.crop is not None:
            image, mask = scaled_crop(rng, image, mask, self.crop, (settings.scales[0], settings.scales[1]))
        if settings.augment != "none":
            image, mask = mirrored(rng, image, mask)
        if settings.color_jitter > 0:
            image = jittered(rng, image, settings.color_jitter)
        return image, mask


class SegmentationLoader(EpochLoader):
    """Batches `{"images": (N, 3, H, W) float32, "masks": (N, H, W) int64}`; masks hold class numbers and `IGNORE`.

    Args:
        examples: the images.
        normalize: the last step.
        batch_size: images a batch.
        seed: of the order.
        shuffle: false keeps the order of the data.
        workers: processes that decode.

    """

    def __init__(
        self, examples: Examples, normalize: Normalize, batch_size: int, seed: int, shuffle: bool, workers: int = 0
    ) -> None:
        super().__init__(examples, _stacked, batch_size, seed, shuffle=shuffle, workers=workers)  # type: ignore[arg-type]
        self.examples, self.normalize = examples, normalize

    def set_epoch(self, epoch: int) -> None:
        """Start the given epoch from its first batch."""
        super().set_epoch(epoch)
        self.examples.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for images, masks in super().__iter__():
            yield {"images": self.normalize(images), "masks": masks.long()}


def _stacked(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    shapes = {tuple(mask.shape) for _, mask in rows}
    if len(shapes) > 1:
        first, second = sorted(shapes)[:2]
        raise DataError(
            f"a batch holds images of {first[0]}x{first[1]} and of {second[0]}x{second[1]} (height, width): set "
            "data.size, which all images are brought to"
        )
    return torch.stack([image for image, _ in rows]), torch.stack([mask for _, mask in rows])

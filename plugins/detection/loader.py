"""Batches of images and boxes for training and evaluation."""

from __future__ import annotations

from pathlib import Path

from bnnapps.plugins.detection.data_config import DetectionData
from bnnapps.plugins.detection.sets import DetectionSet
from bnnapps.training.loader import EpochLoader


def detection_loader(
    part: DetectionSet, settings: DetectionData, seed: int, train: bool, broken: dict[Path, str] | None = None
) -> EpochLoader:
    """The loader of the training set (shuffled, changed) or of the dev set (in order, as it is).

    A batch is `{"images": list of float32 (3, H, W) in [0, 1], "targets": list of dicts}`. A target has `boxes` (n, 4)
    float32 x1 y1 x2 y2 in pixels of the image as the detector sees it, `labels` (n,) int64 from 1 on, `difficult` and
    `crowd` (n,) bool, `area` (n,) float32 in those pixels, `image_id` int64, and how to come back to the image as it
    was: `scale` (2,) and `offset` (2,) float32 in x and y, `original_size` (2,) int64 height and width
    (`original_boxes`). Training targets hold no crowd regions, and difficult objects only if `keep_difficult`.

    Every random change follows from (seed, epoch, image) alone. Where `skip_broken` is set, files that cannot be
    decoded are left out and noted in `broken`; else the first one is a `DataError`.
    """
    raise NotImplementedError

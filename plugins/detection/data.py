"""The images and boxes of a recipe: read, checked and drawn."""

from __future__ import annotations

from bnnapps.plugins.detection.data_config import DetectionData
from bnnapps.plugins.detection.sets import Prepared


def prepare_detection(settings: DetectionData, seed: int) -> Prepared:
    """The images and boxes that a recipe asks for.

    `train_size` and `dev_size` draw with the recipe's seed. No image file is decoded yet, unless `cache` is true;
    every annotation is read and checked.

    Raises:
        DataError, MissingExtraError: with one clear line that names the file.
    """
    raise NotImplementedError

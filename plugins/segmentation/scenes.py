"""Scenes of handwritten digits with their masks, in the order that the set for detection has them."""

from __future__ import annotations

import numpy as np
import torch

from bnnapps.plugins.imagery.scenes import CLASSES as DIGITS
from bnnapps.plugins.imagery.scenes import Part, digit_scenes
from bnnapps.plugins.segmentation.sets import ArraySet, Splits

CLASSES = ("background", *DIGITS)


def load_scenes(train: int, dev: int, size: int, most_digits: int, seed: int) -> Splits:
    """`train` and `dev` scenes; they share no handwriting. 11 classes; the edges of ink are ignored."""
    counts: dict[Part, int] = {"train": train, "dev": dev}
    parts = []
    for name, count in counts.items():
        scenes = digit_scenes(name, count, size, most_digits, seed)
        images = np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2)
        masks = np.stack([scene.mask for scene in scenes])
        parts.append(ArraySet(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(masks)))
    description = f"digit_scenes, real handwriting on textures, {size}x{size} (composed)"
    return Splits(parts[0], parts[1], CLASSES, description)

"""Random changes of a training image together with its mask."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.plugins.segmentation.sets import IGNORE

Rng = np.random.Generator
Size = tuple[int, int]

FILL = (124, 116, 104)
"""What stands beyond an image: the mean colour of ImageNet."""


def image_rng(seed: int, epoch: int, index: int) -> Rng:
    """Random numbers that follow from (seed, epoch, image) alone."""
    return np.random.default_rng([seed, epoch, index])


def resized(image: Tensor, mask: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Both at another size: the image bilinear with antialiasing, each pixel of the mask from the nearest one.

    Shapes: uint8 (3, H, W) and (H, W).
    """
    if tuple(image.shape[1:]) == size:
        return image, mask
    scaled = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
    nearest = F.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0]
    return scaled.round_().clamp_(0, 255).to(torch.uint8), nearest.to(torch.uint8)


def padded(image: Tensor, mask: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Both in the upper left corner of a canvas of at least `size`: `FILL` and `IGNORE` around them."""
    height, width = image.shape[1:]
    tall, wide = max(height, size[0]), max(width, size[1])
    if (tall, wide) == (height, width):
        return image, mask
    canvas = torch.tensor(FILL, dtype=torch.uint8)[:, None, None].repeat(1, tall, wide)
    ignored = torch.full((tall, wide), IGNORE, dtype=torch.uint8)
    canvas[:, :height, :width], ignored[:height, :width] = image, mask
    return canvas, ignored


def letterboxed(image: Tensor, mask: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Both at exactly `size`: scaled down in proportion if they are larger, then padded."""
    height, width = image.shape[1:]
    factor = min(1.0, size[0] / height, size[1] / width)
    if factor < 1:
        inner = (min(size[0], round(height * factor)), min(size[1], round(width * factor)))
        image, mask = resized(image, mask, inner)
    return padded(image, mask, size)


def scaled_crop(
    rng: Rng, image: Tensor, mask: Tensor, crop: Size, scales: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """A part of `crop` pixels of both, scaled by a factor s first; each octave of s is as likely.

    Where the scaled image is smaller than the part, `FILL` and `IGNORE` stand around it.
    """
    low, high = math.log(scales[0]), math.log(scales[1])
    factor = math.exp(low + (high - low) * rng.random())
    height, width = (max(1, round(side * factor)) for side in image.shape[1:])
    image, mask = padded(*resized(image, mask, (height, width)), crop)
    top, left = (int(rng.random() * (side - part + 1)) for side, part in zip(image.shape[1:], crop, strict=True))
    window = (slice(top, top + crop[0]), slice(left, left + crop[1]))
    return image[:, window[0], window[1]], mask[window]


def mirrored(rng: Rng, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both with left and right exchanged, for every second image."""
    return (image.flip(-1), mask.flip(-1)) if rng.random() < 0.5 else (image, mask)


def jittered(rng: Rng, image: Tensor, most: float) -> Tensor:
    """Brightness, then contrast around the mean, each by a factor from 1 - most to 1 + most."""
    bright, contrast = (1 + most * (2 * rng.random() - 1) for _ in range(2))
    values = image.float() * bright
    values = (values - values.mean()) * contrast + values.mean()
    return values.round_().clamp_(0, 255).to(torch.uint8)

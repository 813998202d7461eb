"""Random changes of training images and their boxes (SSD: Liu et al., ECCV 2016, section 2.2 and its zoom out)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnnapps.plugins.detection.boxes import box_areas, has_area
from bnnapps.plugins.detection.geometry import Window
from bnnapps.plugins.detection.sets import Flags, Floats, Pixels

Rng = np.random.Generator
Colours = NDArray[np.float32]

OVERLAPS = (None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
"""`None`: the whole image; else a crop whose overlap with some object is at least so much."""
_TRIES = 50
_ROUNDS = 10
_SMALLEST = 0.3


def image_rng(seed: int, epoch: int, index: int) -> Rng:
    """Random numbers that follow from (seed, epoch, image) alone, whoever draws them and in whatever order."""
    return np.random.default_rng([seed, epoch, index])


def zoomed_out(rng: Rng, width: int, height: int, most: float) -> Window:
    """For every second image a canvas of 1 to `most` times its sides around it, else the image itself.

    The image lies anywhere on the canvas. The window is in pixels of the image, so that it starts at negative numbers.
    """
    if most <= 1 or rng.random() < 0.5:
        return Window(0, 0, width, height)
    factor = 1 + (most - 1) * rng.random()
    left, upper = (rng.random() * (factor - 1) * side for side in (width, height))
    return Window(-left, -upper, factor * width - left, factor * height - upper)


def cropped(rng: Rng, boxes: Floats, canvas: Window) -> Window:
    """A part of the canvas that shows enough of some object.

    One of `OVERLAPS` is drawn. Up to 50 crops are tried: sides of 0.3 to 1 of the canvas's, height by width from 1/2 to
    2, anywhere. The first one counts that has at least the drawn overlap (intersection over union) with some object
    and holds the middle of some object. Where none does, another overlap is drawn.

    Args:
        rng: random numbers.
        boxes: (n, 4), in the coordinates of the canvas; none: every crop is good.
        canvas: what is cropped.

    """
    for _ in range(_ROUNDS):
        overlap = OVERLAPS[int(rng.random() * len(OVERLAPS))]
        if overlap is None:
            return canvas
        windows = _candidates(rng, canvas)
        good: Flags = np.ones(len(windows), bool)
        if len(boxes):
            good = np.asarray((_iou(windows, boxes) >= overlap).any(1) & _holds_middle(windows, boxes).any(1))
        shape = (windows[:, 3] - windows[:, 1]) / (windows[:, 2] - windows[:, 0])
        good &= (shape >= 0.5) & (shape <= 2)
        if good.any():
            return Window(*windows[int(good.argmax())].tolist())
    return canvas


def _candidates(rng: Rng, canvas: Window) -> Floats:
    share = rng.random((_TRIES, 4))
    sides = np.array([canvas.x2 - canvas.x1, canvas.y2 - canvas.y1])
    size = (_SMALLEST + (1 - _SMALLEST) * share[:, :2]) * sides
    start = np.array([canvas.x1, canvas.y1]) + share[:, 2:] * (sides - size)
    found: Floats = np.concatenate([start, start + size], axis=1).astype(np.float32)
    return found


def _iou(windows: Floats, boxes: Floats) -> Floats:
    """Intersection over union, (windows, boxes)."""
    low = np.maximum(windows[:, None, :2], boxes[None, :, :2])
    high = np.minimum(windows[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    found: Floats = common / (box_areas(windows)[:, None] + box_areas(boxes)[None] - common)
    return found


def _holds_middle(windows: Floats, boxes: Floats) -> Flags:
    """Whether a window holds a box's middle, (windows, boxes)."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.asarray(((middle > windows[:, None, :2]) & (middle < windows[:, None, 2:])).all(2))


def boxes_in(boxes: Floats, window: Window) -> tuple[Floats, Flags]:
    """The boxes clipped to the window, and which of them have their middle and some area in it.

    Args:
        boxes: (n, 4), in the same coordinates as the window.
        window: the crop.

    """
    frame = np.array([window], np.float32)
    found = np.concatenate([np.maximum(boxes[:, :2], frame[:, :2]), np.minimum(boxes[:, 2:], frame[:, 2:])], axis=1)
    return found.astype(np.float32), _holds_middle(frame, boxes)[0] & has_area(found)


def distorted(rng: Rng, image: Pixels, swap_channels: bool) -> Pixels:
    """The image in other colours.

    Each with probability 1/2, in the order of SSD: brightness by up to 32 of 255; contrast by a factor of 0.5 to 1.5,
    before or after the next two, as likely; saturation by 0.5 to 1.5 and hue by up to 18 degrees; channels exchanged.

    Args:
        rng: random numbers.
        image: uint8 (H, W, 3).
        swap_channels: whether channels are exchanged at all.

    """
    chance, amount = rng.random(6), rng.random(4)
    order = rng.permutation(3)
    found = image.astype(np.float32)
    if chance[0] < 0.5:
        found += np.float32(64 * amount[0] - 32)
    contrast = np.float32(0.5 + amount[1]) if chance[1] < 0.5 else np.float32(1)
    if chance[2] < 0.5:
        found *= contrast
    saturation = 0.5 + amount[2] if chance[3] < 0.5 else 1.0
    hue = 36 * amount[3] - 18 if chance[4] < 0.5 else 0.0
    if saturation != 1 or hue != 0:
        found = coloured(np.clip(found, 0, 255), saturation, hue)
    if chance[2] >= 0.5:
        found *= contrast
    if swap_channels and chance[5] < 0.5:
        found = found[..., order]
    return np.clip(np.round(found), 0, 255).astype(np.uint8)


def coloured(image: Colours, saturation: float, hue: float) -> Colours:
    """The image with its saturation (HSV) multiplied and its hue turned.

    With v = max, c = v - min and h the hue in sixths of a turn, a channel is v - c' clip(min(k, 4 - k), 0, 1) at
    k = (n + h') mod 6, n = 5, 3, 1 for red, green, blue. c' = min(saturation c, v) keeps saturation at most 1.

    Args:
        image: float32 (H, W, 3) in [0, 255].
        saturation: factor.
        hue: degrees.

    """
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = image.max(2)
    chroma = value - image.min(2)
    safe = np.where(chroma > 0, chroma, 1)
    sixth = np.where(
        value == red,
        (green - blue) / safe % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sixth = sixth + np.float32(hue / 60)
    chroma = np.minimum(chroma * np.float32(saturation), value)
    found = np.empty_like(image)
    for channel, n in enumerate((5, 3, 1)):
        k = (n + sixth) % 6
        found[..., channel] = value - chroma * np.clip(np.minimum(k, 4 - k), 0, 1)
    return found

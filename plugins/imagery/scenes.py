"""Scenes of handwritten digits on textures, with boxes and class masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnnapps.plugins.classification.digits import load_digits
from bnnapps.plugins.imagery.grounds import generated_ground, photograph_ground, photographs

Part = Literal["train", "dev"]
Backgrounds = Literal["generated", "photographs"]
Floats = NDArray[np.float64]

CLASSES = tuple(str(digit) for digit in range(10))
IGNORE = 255
INK, EDGE = 0.5, 0.15
"""A pixel that is covered by at least `INK` belongs to the digit, one from `EDGE` on to its edge."""
SCALE = (0.2, 0.48)
"""Least and greatest side of a digit's frame, ink and empty border, as a share of the scene's side."""
_MARGIN = 2
_CONTRAST = 110
_TRIES = 30


@dataclass(frozen=True)
class Scene:
    """A composed image.

    Attributes:
        image: uint8 (H, W, 3).
        mask: uint8 (H, W): 0 background, 1 to 10 the digits 0 to 9, 255 at the edges of ink.
        boxes: float32 (n, 4), x1 y1 x2 y2 around the ink of each digit, in pixels from the upper left corner.
        labels: int64 (n,), 1 to 10.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


def digit_scenes(
    part: Part,
    count: int,
    size: int = 128,
    most_digits: int = 5,
    seed: int = 0,
    backgrounds: Backgrounds = "generated",
    scale: tuple[float, float] = SCALE,
) -> list[Scene]:
    """Scenes of the digits that `load_digits` gives; training and dev scenes share no digit.

    A scene has 1 to `most_digits` digits, fewer where they find no place. Each is scaled, turned, slanted and coloured
    at random; digits do not touch. Scene i of a part follows from (seed, part, i) alone, so that a longer row starts
    with the shorter one.

    Args:
        part: which digits.
        count: of scenes.
        size: side of a scene in pixels.
        most_digits: at least 1.
        seed: of everything random.
        backgrounds: `photographs` needs scikit-image.
        scale: least and greatest side of a digit's frame as a share of `size`; ink takes some seven tenths of it.

    Raises:
        MissingExtraError, DataError: the digits or the photographs are not installed.

    """
    splits = load_digits()
    digits = splits.train if part == "train" else splits.dev
    images, labels = digits.images[:, 0].numpy(), digits.labels.numpy()  # type: ignore[union-attr]
    pictures = photographs() if backgrounds == "photographs" else []
    number = 0 if part == "train" else 1
    rngs = (np.random.default_rng([seed, number, i]) for i in range(count))
    return [_composed(rng, images, labels, size, most_digits, scale, pictures) for rng in rngs]


def _composed(
    rng: np.random.Generator,
    digits: NDArray[np.uint8],
    labels: NDArray[np.int64],
    size: int,
    most: int,
    scale: tuple[float, float],
    pictures: Sequence[NDArray[np.uint8]],
) -> Scene:
    image = photograph_ground(rng, size, pictures) if pictures else generated_ground(rng, size)
    mask = np.zeros((size, size), np.uint8)
    boxes: list[tuple[int, int, int, int]] = []
    found: list[int] = []
    for _ in range(1 + int(rng.random() * most)):
        chosen = int(rng.random() * len(digits))
        cover = _warped(rng, digits[chosen], size, scale)
        place = _place(rng, cover.shape, boxes, size)
        if place is None:
            continue
        row, column = place
        window = (slice(row, row + cover.shape[0]), slice(column, column + cover.shape[1]))
        _paste(rng, image[window], cover)
        label = int(labels[chosen]) + 1
        mask[window] = np.where(cover >= INK, label, np.where(cover >= EDGE, IGNORE, 0))
        rows, columns = (np.flatnonzero((cover >= INK).any(axis)) for axis in (1, 0))
        boxes.append((column + columns[0], row + rows[0], column + columns[-1] + 1, row + rows[-1] + 1))
        found.append(label)
    image = image * _light(rng, size) + rng.normal(size=image.shape) * (8 * rng.random())
    pixels = np.clip(np.round(image), 0, 255).astype(np.uint8)
    return Scene(pixels, mask, np.array(boxes, np.float32).reshape(-1, 4), np.array(found, np.int64))


def _warped(rng: np.random.Generator, digit: NDArray[np.uint8], size: int, scale: tuple[float, float]) -> Floats:
    """The digit scaled, turned and slanted, as the share of each pixel that ink covers, cut to `EDGE`."""
    spread = round(scale[1] - scale[0], 9)  # 0.48 - 0.2 is 0.28, as scenes have always been composed
    side = (scale[0] + spread * rng.random()) * size
    angle = np.deg2rad(50 * (rng.random() - 0.5))
    slant, stretch = 0.4 * (rng.random() - 0.5), 0.8 + 0.4 * rng.random()
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = side / len(digit) * turn @ np.array([[1.0, slant], [0.0, 1.0]]) @ np.diag([stretch, 1.0])
    inverse = np.linalg.inv(forward)
    half = int(np.ceil(0.75 * side))
    axis = np.arange(-half, half + 1)
    x, y = np.meshgrid(axis, axis)
    middle = (len(digit) - 1) / 2
    cover = _sampled(
        digit / 255.0,
        inverse[1, 0] * x + inverse[1, 1] * y + middle,
        inverse[0, 0] * x + inverse[0, 1] * y + middle,
    )
    cover = cover / max(float(cover.max()), 1e-6)  # thin strokes do not fade when they shrink
    rows, columns = (np.flatnonzero((cover >= EDGE).any(axis)) for axis in (1, 0))
    return cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _sampled(picture: Floats, rows: Floats, columns: Floats) -> Floats:
    """Bilinear values of the picture at real coordinates; 0 beyond it."""
    padded = np.pad(picture, 1)
    rows, columns = (
        np.clip(at + 1, 0, length - 1.001) for at, length in zip((rows, columns), padded.shape, strict=True)
    )
    low, left = rows.astype(np.int64), columns.astype(np.int64)
    down, right = rows - low, columns - left
    upper = padded[low, left] * (1 - right) + padded[low, left + 1] * right
    lower = padded[low + 1, left] * (1 - right) + padded[low + 1, left + 1] * right
    found: Floats = upper * (1 - down) + lower * down
    return found


def _place(
    rng: np.random.Generator, shape: tuple[int, ...], boxes: Sequence[tuple[int, int, int, int]], size: int
) -> tuple[int, int] | None:
    """Row and column where the digit touches no other; `None` where the tries find none."""
    height, width = shape
    if height > size or width > size:
        return None
    for _ in range(_TRIES):
        row, column = int(rng.random() * (size - height + 1)), int(rng.random() * (size - width + 1))
        near = (
            column < right + _MARGIN
            and left < column + width + _MARGIN
            and row < lower + _MARGIN
            and upper < row + height + _MARGIN
            for left, upper, right, lower in boxes
        )
        if not any(near):
            return row, column
    return None


def _paste(rng: np.random.Generator, ground: Floats, cover: Floats) -> None:
    """Ink of a random colour that differs in brightness from what it lies on; changes `ground`."""
    ink = rng.random(3) * 255
    below = float(ground.mean())
    gap = float(ink.mean()) - below
    if abs(gap) < _CONTRAST:
        up = below < 127.5
        ink = ink + (_CONTRAST - gap if up else -_CONTRAST - gap)
    ink = np.clip(ink, 0, 255)
    ground += (ink - ground) * cover[..., None]


def _light(rng: np.random.Generator, size: int) -> Floats:
    """Light that changes evenly across the scene, by up to a fifth."""
    across, down = 0.4 * (rng.random(2) - 0.5)
    axis = np.linspace(-0.5, 0.5, size)
    found: Floats = (1 + across * axis[None, :] + down * axis[:, None])[..., None]
    return found

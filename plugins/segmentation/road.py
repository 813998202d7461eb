"""Generated street scenes: sky, ground, a curved road in perspective with a dashed line, cars that hide parts of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bnnapps.plugins.segmentation.sets import ArraySet, Splits

CLASSES = ("rest", "road", "car")
SIZE = (96, 160)
COUNTS = {"train": 400, "dev": 100}
_MOST_CARS = 3
_BELOW_PIXELS = 0.5

Floats = NDArray[np.float64]


def synthetic_road(train: int, dev: int, size: tuple[int, int], seed: int) -> Splits:
    """`train` and `dev` scenes with masks of three classes: rest, road, car.

    Scene i of a part follows from (seed, part, i) alone.
    """
    parts = []
    for number, count in enumerate((train, dev)):
        scenes = [road_scene(np.random.default_rng([seed, number, i]), *size) for i in range(count)]
        images = np.stack([image for image, _ in scenes]).transpose(0, 3, 1, 2)
        masks = np.stack([mask for _, mask in scenes])
        parts.append(ArraySet(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(masks)))
    return Splits(parts[0], parts[1], CLASSES, f"synthetic_road, scenes of {size[0]}x{size[1]} (generated)")


def road_scene(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image (H, W, 3) and its mask (H, W).

    The camera looks along the road. A row at depth t (0 at the horizon, 1 at the bottom) shows the road around
    x = vanishing point + shift t + bend (1 - t)^2, as wide as t; so lines meet at the horizon.
    """
    horizon = height * (0.3 + 0.2 * rng.random())
    rows: Floats = np.arange(height, dtype=np.float64)[:, None] + 0.5
    columns: Floats = np.arange(width, dtype=np.float64)[None, :] + 0.5
    depth = np.clip((rows - horizon) / (height - horizon), 0, 1)
    vanishing, shift = width * (0.3 + 0.4 * rng.random()), width * 0.5 * (rng.random() - 0.5)
    bend = width * 0.7 * (rng.random() - 0.5)
    middle = vanishing + shift * depth + bend * ((1 - depth) ** 2 - 1) * depth
    half = width * (0.25 + 0.35 * rng.random()) * depth + _BELOW_PIXELS
    below = rows >= horizon
    road = below & (np.abs(columns - middle) < half)
    image = np.where(below[..., None], _ground(rng, height, width, depth), _sky(rng, rows, columns, horizon))
    asphalt = 45 + 90 * rng.random() + rng.normal(size=(height, width, 1)) * (3 + 6 * rng.random())
    tint = (rng.random(3) - 0.5) * 20
    image = np.where(road[..., None], asphalt + tint, image)
    _lines(rng, image, road, columns - middle, half, depth)
    mask = road.astype(np.uint8)
    cars = sorted(0.12 + 0.6 * rng.random() for _ in range(rng.integers(0, _MOST_CARS + 1)))
    for at in cars:  # the nearest last
        _car(rng, image, mask, at, horizon, middle[:, 0], half[:, 0])
    light = 0.7 + 0.6 * rng.random() + 0.3 * (rng.random() - 0.5) * (columns / width - 0.5)
    noise = rng.normal(size=image.shape) * (2 + 10 * rng.random())
    pixels = np.clip(np.round(image * light[..., None] + noise), 0, 255).astype(np.uint8)
    return pixels, mask


def _sky(rng: np.random.Generator, rows: Floats, columns: Floats, horizon: float) -> Floats:
    """A sky that is lighter below, with the outlines of houses or hills before it."""
    top, low = 90 + 100 * rng.random(3), 170 + 70 * rng.random(3)
    share = np.clip(rows / max(horizon, 1.0), 0, 1)[..., None]
    sky: Floats = (top * (1 - share) + low * share) * np.ones((1, columns.shape[1], 1))
    steps = rng.integers(4, 12)
    heights = horizon * (0.05 + 0.45 * rng.random(steps))
    outline = heights[np.minimum((columns[0] / columns.shape[1] * steps).astype(int), steps - 1)]
    shade = 50 + 110 * rng.random((steps, 3))
    chosen = shade[np.minimum((columns[0] / columns.shape[1] * steps).astype(int), steps - 1)]
    houses = rows > horizon - outline[None, :]
    return np.where(houses[..., None], chosen[None], sky)


def _ground(rng: np.random.Generator, height: int, width: int, depth: Floats) -> Floats:
    """Grass, earth or pavement: a colour with coarse and fine texture, some of it as grey as a road."""
    colour = np.array([70.0, 110.0, 50.0]) + 60 * (rng.random(3) - 0.5)
    if rng.random() < 0.3:
        colour = np.full(3, 90 + 80 * rng.random()) + 30 * (rng.random(3) - 0.5)
    coarse = rng.normal(size=(height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[:height, :width]
    fine = rng.normal(size=(height, width))
    texture = (9 * coarse + 7 * fine) * (0.4 + depth)
    found: Floats = colour + texture[..., None]
    return found


def _lines(
    rng: np.random.Generator, image: Floats, road: NDArray[np.bool_], across: Floats, half: Floats, depth: Floats
) -> None:
    """A dashed line in the middle and, for two roads of three, lines at the sides; changes `image`."""
    paint = 190 + 60 * rng.random()
    # Equal lengths on the ground shrink with the square of the distance.
    phase = 3.0 / np.maximum(depth, 0.03) + 6 * rng.random()
    dashes = road & (np.abs(across) < 0.03 * half + 0.3) & (np.mod(phase, 1.6) < 0.8) & (depth > 0.06)
    image[dashes] = paint
    if rng.random() < 0.67:
        sides = road & (np.abs(np.abs(across) - 0.9 * half) < 0.025 * half)
        image[sides] = paint


def _car(
    rng: np.random.Generator,
    image: Floats,
    mask: NDArray[np.uint8],
    at: float,
    horizon: float,
    middle: Floats,
    half: Floats,
) -> None:
    """A car seen from behind or ahead, whose wheels stand at depth `at`; changes `image` and `mask`."""
    height, width = mask.shape
    foot = min(height - 1, int(horizon + at * (height - horizon)))
    wide = 0.75 * half[foot] * (0.8 + 0.3 * rng.random())
    tall = wide * (0.7 + 0.3 * rng.random())
    lane = (1.0 if rng.random() < 0.5 else -1.0) * 0.45 * half[foot]
    left, right = (round(middle[foot] + lane + s * wide / 2) for s in (-1, 1))
    upper, roof = round(foot - 0.6 * tall), round(foot - tall)
    inner = round(0.15 * wide)
    colour = 255 * rng.random(3)
    parts = [
        (roof, upper, left + inner, right - inner, 0.35 * colour + 40),  # windows
        (upper, foot, left, right, colour),
        (foot - max(1, round(0.15 * tall)), foot + 1, left, right, np.full(3, 25.0)),  # wheels and shadow
    ]
    for top, bottom, first, last, paint in parts:
        window = (slice(max(0, top), max(0, bottom)), slice(max(0, first), max(0, min(width, last))))
        image[window], mask[window] = paint, CLASSES.index("car")

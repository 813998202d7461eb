"""Textures to compose scenes on: generated ones, and photographs that scikit-image ships."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnapps.errors import DataError
from bnnapps.plugins.imagery.images import BrokenImageError, decode_rgb

Floats = NDArray[np.float64]
_STRENGTH = 0.5
"""How much of the difference of its colours a texture shows: digits on it stay legible."""
PHOTOGRAPHS = ("brick.png", "grass.png", "gravel.png")


def generated_ground(rng: np.random.Generator, size: int) -> Floats:
    """A texture of clouds, stripes, checks or ripples between two random colours, (size, size, 3) in [0, 255]."""
    first, second = rng.random((2, 3)) * 255
    share = _PAINTERS[int(rng.random() * len(_PAINTERS))](rng, size)
    found: Floats = first + _STRENGTH * (second - first) * share[..., None]
    return found


def photographs() -> list[NDArray[np.uint8]]:
    """Those of brick, grass and gravel of scikit-image; only its files are read, nothing of it is imported.

    Raises:
        DataError: scikit-image, or a file of it, is not there.
    """
    spec = find_spec("skimage")
    folders = [] if spec is None or spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    found = []
    for name in PHOTOGRAPHS:
        path = next((p for p in (Path(folder) / "data" / name for folder in folders) if p.is_file()), None)
        if path is None:
            raise DataError(
                f"data.scene_backgrounds 'photographs' needs {name} of the package scikit-image, which is not "
                "installed: pip install scikit-image, or set data.scene_backgrounds to generated"
            )
        try:
            found.append(decode_rgb(path))
        except BrokenImageError as problem:
            raise DataError(f"{path} is damaged ({problem}): install scikit-image again") from None
    return found


def photograph_ground(rng: np.random.Generator, size: int, pictures: Sequence[NDArray[np.uint8]]) -> Floats:
    """A random square of a photograph, mirrored for every second, in a random tint; as `generated_ground`."""
    picture = pictures[int(rng.random() * len(pictures))]
    side = min(size, *picture.shape[:2])
    row, column = (int(rng.random() * (length - side + 1)) for length in picture.shape[:2])
    cut = picture[row : row + side, column : column + side]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    tint = 0.6 + 0.8 * rng.random(3)
    found: Floats = np.clip(_enlarged(cut.astype(np.float64), size) * tint, 0, 255)
    return found


def _enlarged(picture: Floats, size: int) -> Floats:
    if picture.shape[0] == size:
        return picture
    at = np.arange(size) * picture.shape[0] // size
    found: Floats = picture[at][:, at]
    return found


def _clouds(rng: np.random.Generator, size: int) -> Floats:
    """Value noise: random grids, each twice as fine and half as strong as the one before, interpolated."""
    total, weights = np.zeros((size, size)), 0.0
    for octave in range(4):
        cells = 3 * 2**octave
        total += _interpolated(rng.random((cells + 1, cells + 1)), size) / 2**octave
        weights += 1 / 2**octave
    found: Floats = total / weights
    return found


def _interpolated(grid: Floats, size: int) -> Floats:
    """The grid's values on size x size pixels: bilinear, with the smooth step 3t^2 - 2t^3 in each cell."""
    place = (np.arange(size) + 0.5) / size * (len(grid) - 1)
    low = place.astype(np.int64)
    part = place - low
    part = part * part * (3 - 2 * part)
    rows = grid[low] * (1 - part)[:, None] + grid[low + 1] * part[:, None]
    found: Floats = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    return found


def _turned(rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Coordinates from 0 to 1, turned by a random angle."""
    angle = 2 * np.pi * rng.random()
    axis = (np.arange(size) + 0.5) / size
    x, y = axis[None, :], axis[:, None]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _stripes(rng: np.random.Generator, size: int) -> Floats:
    x, _ = _turned(rng, size)
    found: Floats = 0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * (3 + 9 * rng.random()) * x))
    return found


def _checks(rng: np.random.Generator, size: int) -> Floats:
    x, y = _turned(rng, size)
    cells = np.pi * (3 + 6 * rng.random())
    found: Floats = 0.5 + 0.5 * np.tanh(6 * np.sin(cells * x) * np.sin(cells * y))
    return found


def _ripples(rng: np.random.Generator, size: int) -> Floats:
    x, y = _turned(rng, size)
    away = np.hypot(x - rng.random(), y - rng.random())
    found: Floats = 0.5 + 0.5 * np.sin(2 * np.pi * (3 + 9 * rng.random()) * away)
    return found


_PAINTERS = (_clouds, _stripes, _checks, _ripples)

"""Scenes of handwritten digits on textures, with boxes and class masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CLASSES = tuple(str(digit) for digit in range(10))
IGNORE = 255


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
    part: Literal["train", "dev"],
    count: int,
    size: int = 128,
    most_digits: int = 5,
    seed: int = 0,
    backgrounds: Literal["generated", "photographs"] = "generated",
) -> list[Scene]:
    """Scenes of the digits that `load_digits` gives; training and dev scenes share no digit.

    Scene i of a part follows from (seed, part, i) alone: a longer row starts with the shorter one.

    Raises:
        MissingExtraError, DataError: the digits or the photographs are not installed.
    """
    raise NotImplementedError

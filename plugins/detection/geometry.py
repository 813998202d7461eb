"""How an image comes to the size that the detector sees, and how boxes come back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bnnapps.plugins.detection.data_config import Resize
from bnnapps.plugins.detection.sets import Floats, Pixels

FILL = (123, 117, 104)
"""Red, green, blue of what no image covers: the mean of ImageNet, as in SSD."""


class Window(NamedTuple):
    """A rectangle: x1 y1 x2 y2."""

    x1: float
    y1: float
    x2: float
    y2: float


class Mapping(NamedTuple):
    """A place p of the image comes to p * scale + offset, in x and y; the result is `width` x `height` pixels."""

    scale: tuple[float, float]
    offset: tuple[float, float]
    width: int
    height: int


def mapping(window: Window, size: int | None, resize: Resize, max_size: int | None) -> Mapping:
    """What brings a window of the image to the size that a recipe asks for.

    Args:
        window: of the image, may reach beyond it.
        size: `None`: the window's own.
        resize: `stretch`: size x size, whatever the shape; `letterbox`: the longer side to `size`, in the middle of
            size x size; `shorter`: the shorter side to `size`, but no side beyond `max_size`.
        max_size: for `shorter`; `None`: 5/3 of the size.

    """
    width, height = window.x2 - window.x1, window.y2 - window.y1
    if size is None:
        out = max(1, round(width)), max(1, round(height))
        scale = out[0] / width, out[1] / height
    elif resize == "stretch":
        out, scale = (size, size), (size / width, size / height)
    elif resize == "letterbox":
        out, scale = (size, size), (size / max(width, height),) * 2
    else:
        longest = round(size * 5 / 3) if max_size is None else max_size
        factor = min(size / min(width, height), longest / max(width, height))
        out = max(1, round(width * factor)), max(1, round(height * factor))
        scale = out[0] / width, out[1] / height
    margin = (out[0] - width * scale[0]) / 2, (out[1] - height * scale[1]) / 2
    if resize != "letterbox" or size is None:
        margin = (0.0, 0.0)
    offset = margin[0] - window.x1 * scale[0], margin[1] - window.y1 * scale[1]
    return Mapping(scale, offset, *out)


def mapped_image(image: Pixels, window: Window, to: Mapping) -> tuple[Pixels, tuple[int, int]]:
    """The part of the window that the image covers, at its new size, and the column and row where it belongs.

    Only whole pixels that the image covers fully are made, each from exactly the part of the image that comes to it:
    no shift by parts of a pixel. Bilinear, over all pixels of that part where the image shrinks.

    Args:
        image: uint8 (H, W, 3).
        window: of the image.
        to: from `mapping`.

    """
    from PIL import Image

    height, width = image.shape[:2]
    low = (max(window.x1, 0.0), max(window.y1, 0.0))
    high = (min(window.x2, float(width)), min(window.y2, float(height)))
    first = [int(np.ceil(low[i] * to.scale[i] + to.offset[i] - 1e-6)) for i in (0, 1)]
    last = [int(np.floor(high[i] * to.scale[i] + to.offset[i] + 1e-6)) for i in (0, 1)]
    columns, rows = (max(0, last[i] - first[i]) for i in (0, 1))
    if columns == 0 or rows == 0:
        return np.zeros((0, 0, 3), np.uint8), (0, 0)
    x1, y1, x2, y2 = (
        min(max((at - to.offset[i % 2]) / to.scale[i % 2], 0.0), float((width, height)[i % 2]))
        for i, at in enumerate((*first, *last))
    )
    if (columns, rows) == (width, height) and (x1, y1, x2, y2) == (0, 0, width, height):
        return image, (first[0], first[1])
    found = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR, box=(x1, y1, x2, y2))
    return np.asarray(found), (first[0], first[1])


def mapped_boxes(boxes: Floats, to: Mapping) -> Floats:
    """Boxes (n, 4) of the image as they lie in the result."""
    found: Floats = (boxes * np.array(to.scale * 2) + np.array(to.offset * 2)).astype(np.float32)
    return found


def original_boxes(boxes: Tensor, target: dict[str, Tensor]) -> Tensor:
    """Boxes that a detector found, in pixels of the image as it was before `detection_loader` sized it.

    p = (q - offset) / scale for every corner, then clipped to the image; a mirrored image has a negative scale.

    Args:
        boxes: (n, 4), x1 y1 x2 y2.
        target: of that image, from the batch: `scale`, `offset`, `original_size`.

    """
    scale, offset = (target[key].to(boxes) for key in ("scale", "offset"))
    corners = (boxes.reshape(-1, 2, 2) - offset) / scale
    height, width = target["original_size"].tolist()
    corners = torch.stack([corners[..., 0].clamp(0, width), corners[..., 1].clamp(0, height)], dim=-1)
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)

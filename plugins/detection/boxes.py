"""Boxes as annotations have them, brought into their image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bnnapps.plugins.detection.sets import BoxCounts, Flags, Floats, Objects


class Written(NamedTuple):
    """An object as its annotation has it.

    Attributes:
        box: x1 y1 x2 y2 in pixels from the upper left corner of the image.
        label: 1 to C.
        degenerate: the annotation gives it no width or no height.
        difficult, crowd: its flags.
        area: in pixels, of its segment; `None`: that of the box.
    """

    box: tuple[float, float, float, float]
    label: int
    degenerate: bool = False
    difficult: bool = False
    crowd: bool = False
    area: float | None = None


def cleaned(written: Sequence[Written], width: int, height: int, image_id: int) -> tuple[Objects, BoxCounts]:
    """The objects that have a box within the image, clipped to it, and what became of the others.

    Args:
        written: the objects.
        width: of the image.
        height: of the image.
        image_id: its number.

    """
    boxes = np.array([w.box for w in written], np.float64).reshape(-1, 4)
    inside = clipped_to(boxes.astype(np.float32), width, height)
    degenerate = np.array([w.degenerate for w in written], bool)
    outside = ~degenerate & ~has_area(inside)
    keep = ~degenerate & ~outside
    reached_out = keep & ((boxes[:, :2] < 0) | (boxes[:, 2:] > [width, height])).any(1)
    areas = np.where(
        [w.area is not None for w in written], [0.0 if w.area is None else w.area for w in written], box_areas(inside)
    )
    objects = Objects(
        boxes=inside[keep],
        labels=np.array([w.label for w in written], np.int64)[keep],
        difficult=np.array([w.difficult for w in written], bool)[keep],
        crowd=np.array([w.crowd for w in written], bool)[keep],
        area=areas.astype(np.float32)[keep],
        image_id=image_id,
    )
    return objects, BoxCounts(int(keep.sum()), int(reached_out.sum()), int(degenerate.sum()), int(outside.sum()))


def clipped_to(boxes: Floats, width: float, height: float) -> Floats:
    """The parts of boxes (n, 4) that lie in the image; a box beside it loses its area."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)


def has_area(boxes: Floats) -> Flags:
    """Whether x2 > x1 and y2 > y1, (n,)."""
    return np.asarray((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))


def box_areas(boxes: Floats) -> Floats:
    """(x2 - x1) (y2 - y1), (n,)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    found: Floats = sides[:, 0] * sides[:, 1]
    return found

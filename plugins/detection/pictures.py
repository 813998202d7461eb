"""Detections drawn on images: the truth beside what each network found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from bnnapps.plugins.detection.metrics import Boxes

SHOWN_SCORE = 0.3
MOST_IMAGES = 8


def detection_sheet(
    images: Sequence[Tensor],
    targets: Sequence[Boxes],
    detections: Mapping[str, Sequence[Boxes]],
    classes: Sequence[str],
    score_threshold: float = SHOWN_SCORE,
) -> str:
    """One row an image: the truth, then what each network found, as HTML with inline SVG over embedded images.

    Args:
        images: float (3, H, W) in [0, 1] or uint8.
        targets: of each image, in its pixels.
        detections: for each network by name, such as `float` and `binary`, what it found on each image.
        classes: names of the labels 1 to C.
        score_threshold: detections below it are not drawn.

    """
    raise NotImplementedError

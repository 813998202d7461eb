"""Mean average precision as VOC and COCO define it, and false positives an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.float64]
Boxes = dict[str, Tensor]


class Curve(NamedTuple):
    """Precision against recall of a class, one point a detection from the surest on.

    Attributes:
        recall, precision, scores: float64 (n,).
        objects: number of objects that are to be found.
    """

    recall: Numbers
    precision: Numbers
    scores: Numbers
    objects: int


class DetectionMetrics:
    """Metrics over a whole dev set.

    Args:
        classes: names of the labels 1 to C.
        score_threshold: detections from this score on count in `false_positives_per_image`.

    """

    def __init__(self, classes: Sequence[str], score_threshold: float = 0.3) -> None:
        self.classes, self.score_threshold = tuple(classes), score_threshold

    def update(self, detections: Sequence[Boxes], targets: Sequence[Boxes]) -> None:
        """Take in some images.

        Args:
            detections: of each image `boxes` (n, 4), `scores` (n,), `labels` (n,).
            targets: of each image `boxes`, `labels` and, where there are any, `difficult`, `crowd` and `area`.

        Raises:
            TrainingError: boxes or scores that are not finite.
        """
        raise NotImplementedError

    def compute(self) -> dict[str, float]:
        """All metrics, in [0, 1] but for the last.

        `map50`: VOC's mean over classes of the area under the precision envelope at IoU 0.5 (VOC 2010 and later);
        `map50_07`: VOC2007's mean over 11 recalls; `map`: COCO's mean over IoU 0.5 to 0.95; `map50_coco`, `map75`:
        COCO's at one IoU; `ap/CLASS`: the class's part of `map50` (no key for a class without objects);
        `false_positives_per_image`: detections from `score_threshold` on that VOC counts as false, at IoU 0.5;
        `recall`: share of the objects that detections from that score on find.
        """
        raise NotImplementedError

    def curves(self) -> dict[str, Curve]:
        """The curve of every class that has objects, at IoU 0.5."""
        raise NotImplementedError

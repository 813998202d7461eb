"""Which detections are right by Pascal VOC's rules, and average precision from that."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
Outcomes = NDArray[np.int64]

FALSE, TRUE, IGNORED = 0, 1, -1


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


def overlaps(boxes: Numbers, others: Numbers, crowd: bool = False) -> Numbers:
    """Intersection over union of boxes (n, 4) and (m, 4), (n, m); for crowd regions over the area of the first.

    Edges are real numbers: a box that covers pixels a to b, counted from 1 and both included, spans a - 1 to b. VOC's
    "+ 1" is in that already.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    own, theirs = (np.clip(b[:, 2:] - b[:, :2], 0, None).prod(1) for b in (boxes, others))
    whole = np.broadcast_to(own[:, None], common.shape) if crowd else own[:, None] + theirs[None] - common
    found: Numbers = np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)
    return found


def judged(
    boxes: Numbers, scores: Numbers, objects: Numbers, difficult: Flags, crowd: Flags, least: float = 0.5
) -> Outcomes:
    """What each detection of one class in one image is: `TRUE`, `FALSE` or `IGNORED`.

    From the surest detection on, each is compared with the object it overlaps most. At `least` or more it is true,
    unless an earlier one found that object; where the object is difficult it is ignored. (VOC development kit, 2007 to
    2012. COCO would then look for another object that overlaps enough.) What is left and lies in a crowd region for
    `least` of its own area is ignored, as in COCO.

    Args:
        boxes: of the detections, (n, 4).
        scores: (n,).
        objects: boxes of the truth, (m, 4).
        difficult: (m,).
        crowd: (m,).
        least: intersection over union.

    """
    outcome = np.full(len(scores), FALSE, np.int64)
    if len(objects) == 0 or len(scores) == 0:
        return outcome
    single = np.flatnonzero(~crowd)
    shares = overlaps(boxes, objects[single])
    best = shares.argmax(1) if len(single) else np.zeros(len(scores), np.int64)
    enough = shares.max(1, initial=0.0) >= least
    if crowd.any():
        in_crowd = overlaps(boxes, objects[crowd], crowd=True).max(1) >= least
        outcome[in_crowd] = IGNORED
    found = np.zeros(len(single), bool)
    for at in np.argsort(-scores, kind="stable"):
        if not enough[at]:
            continue
        chosen = best[at]
        if difficult[single[chosen]]:
            outcome[at] = IGNORED
        else:
            outcome[at] = FALSE if found[chosen] else TRUE
            found[chosen] = True
    return outcome


def precision_recall(outcomes: Outcomes, scores: Numbers, objects: int) -> Curve:
    """The curve from the detections of all images; those that are ignored leave no point.

    Args:
        outcomes: from `judged`, (n,).
        scores: (n,).
        objects: number that are to be found, at least 1.

    """
    kept = outcomes != IGNORED
    outcomes, scores = outcomes[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(outcomes[order] == TRUE)
    return Curve(right / objects, right / np.arange(1, len(order) + 1), scores[order], objects)


def envelope(precision: Numbers) -> Numbers:
    """The best precision at this recall or a higher one, (n,)."""
    found: Numbers = np.maximum.accumulate(precision[::-1])[::-1]
    return found


def area_under(curve: Curve) -> float:
    """Average precision as VOC has it since 2010: the sum of (r_i - r_{i-1}) envelope(precision)_i."""
    steps = np.diff(curve.recall, prepend=0.0)
    return float((steps * envelope(curve.precision)).sum())


def eleven_points(curve: Curve) -> float:
    """Average precision of VOC2007: the mean of max precision at recall >= k / 10, k = 0 to 10; 0 where none is.

    Recalls are compared as whole numbers, 10 found >= k objects. (Floats of the grid, such as 0.30000000000000004,
    miss a recall of exactly 3 / 10.)
    """
    found = np.round(curve.recall * curve.objects).astype(np.int64)
    total = 0.0
    for k in range(11):
        reached = curve.precision[10 * found >= k * curve.objects]
        total += float(reached.max()) if len(reached) else 0.0
    return total / 11

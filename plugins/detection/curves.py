"""Precision against recall, one small drawing for each class."""

from __future__ import annotations

from collections.abc import Mapping

from bnnapps.plugins.detection.metrics import Curve


def precision_recall_picture(curves: Mapping[str, Mapping[str, Curve]]) -> str:
    """Precision against recall of each class at IoU 0.5, as HTML with inline SVG.

    Args:
        curves: what `DetectionMetrics.curves` gives, for each network by name, such as `float` and `binary`.

    """
    raise NotImplementedError

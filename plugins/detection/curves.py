"""Precision against recall, one small drawing for each class."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from bnnapps.plugins.detection.average_precision import Curve, area_under, eleven_points
from bnnapps.report.series import thinned
from bnnapps.report.svg import SERIES, draw

MOST_CLASSES = 20
"""So many classes are drawn, those with most objects; the table has them all."""
_POINTS = 250


def precision_recall_picture(curves: Mapping[str, Mapping[str, Curve]]) -> str:
    """Precision against recall of each class at IoU 0.5, and a table of average precision, as HTML with inline SVG.

    Args:
        curves: what `DetectionMetrics.curves` gives, for each network by name, such as `float` and `binary`.

    """
    first = next(iter(curves.values()), {})
    order = sorted(first, key=lambda name: -first[name].objects)
    if not order:
        return "<p>No class has objects in the dev set.</p>"
    shown = set(order[:MOST_CLASSES])
    plots = "".join(
        _plot(number, name, {network: each[name] for network, each in curves.items()})
        for number, name in enumerate(name for name in first if name in shown)
    )
    keys = "".join(
        f'<li><i class="mark line series-{i % len(SERIES)}"></i>{html.escape(n)}</li>' for i, n in enumerate(curves)
    )
    most = f" Drawn are the {MOST_CLASSES} classes with most objects." if len(order) > len(shown) else ""
    columns = "repeat(auto-fill,minmax(min(100%,15rem),1fr))"
    return (
        f"<p>Each point is the share that is right among the surest detections (precision), against the share of the "
        f"objects that they find (recall), at IoU 0.5.{most}</p>"
        f'<ul class="legend">{keys}</ul><div class="plots" style="grid-template-columns:{columns}">{plots}</div>'
        f"{_table(list(first), curves)}"
    )


def _plot(number: int, name: str, curves: Mapping[str, Curve]) -> str:
    def paint(axes: Axes) -> None:
        for i, curve in reversed(list(enumerate(curves.values()))):
            at = thinned(len(curve.recall), _POINTS)
            recall, precision = ([float(values[j]) for j in at] for values in (curve.recall, curve.precision))
            if recall:  # the surest detection's precision also holds for lower recalls
                axes.plot([0.0, *recall], [precision[0], *precision], color=SERIES[i % len(SERIES)])
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.05)
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")

    drawing = draw(paint, (2.7, 2.1), f"precision-recall-{number}", f"Precision against recall of {name}")
    objects = next(iter(curves.values())).objects
    title = f"{html.escape(name)} ({objects} {'object' if objects == 1 else 'objects'})"
    return f'<figure class="plot"><figcaption>{title}</figcaption>{drawing}</figure>'


def _table(names: Sequence[str], curves: Mapping[str, Mapping[str, Curve]]) -> str:
    """Average precision of every class, by area and, in brackets, over 11 recalls."""
    head = "".join(f"<th>{html.escape(network)}</th>" for network in curves)
    rows = ""
    for name in names:
        cells = "".join(f"<td>{_both([each[name]])}</td>" for each in curves.values())
        rows += f"<tr><td>{html.escape(name)}</td><td>{next(iter(curves.values()))[name].objects}</td>{cells}</tr>"
    means = "".join(f"<td>{_both(list(each.values()))}</td>" for each in curves.values())
    rows += f"<tr><td>mean</td><td>{sum(c.objects for c in next(iter(curves.values())).values())}</td>{means}</tr>"
    return (
        "<p>Average precision in %: the area under the curve, each precision being the best at its recall or beyond; "
        "in brackets VOC2007's, over 11 recalls.</p>"
        f'<div class="scroll"><table><thead><tr><th>class</th><th>objects</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _both(curves: Sequence[Curve]) -> str:
    area, points = (100 * sum(map(of, curves)) / len(curves) for of in (area_under, eleven_points))
    return f"{area:.1f} ({points:.1f})"

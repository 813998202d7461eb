"""Matplotlib figures as SVG that lies inline in a page and takes its colours from there."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib.style
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SERIES = tuple(f"#aa00{i:02x}" for i in range(8))
"""Placeholders of the colours of series; in the page they become `var(--series-0)` and so on."""
INK, QUIET, RULE, SURFACE, MUTED = "#ab0000", "#ab0001", "#ab0002", "#ab0003", "#ab0004"
"""Placeholders of text, of quiet marks, of rules, of the ground, and of bars to compare with."""

_VARIABLES = {colour: f"var(--series-{i})" for i, colour in enumerate(SERIES)} | {
    INK: "var(--ink-2)",
    QUIET: "var(--quiet)",
    RULE: "var(--rule)",
    SURFACE: "var(--ground)",
    MUTED: "var(--muted)",
}

_FAMILY = "'DejaVu Sans'"
_COORDINATES = re.compile(r'( (?:d|x|y|width|height|transform)=")([^"]*)')
_DIGITS = re.compile(r"-?\d+\.\d{3,}")

_STYLE = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "text.parse_math": False,  # a "$" in a name is a dollar sign
    "path.simplify": False,
    "font.family": [
        "DejaVu Sans"
    ],  # ships with matplotlib; wider than the page's font, so text never outgrows its place
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


def draw(paint: Callable[[Axes], None], size: tuple[float, float], prefix: str, label: str) -> Markup:
    """A figure of one plot, as an `<svg>` element without fixed size, colours or outside references.

    Args:
        paint: draws into the axes, in the placeholder colours above.
        size: width and height in inches of 72 points; the page scales it.
        prefix: makes the ids of this figure its own within the page: a letter, then letters, digits, "-".
        label: what a screen reader says.

    """
    return draw_rows(lambda rows: paint(rows[0]), (1,), size, prefix, label)


def draw_rows(
    paint: Callable[[Sequence[Axes]], None],
    heights: Sequence[float],
    size: tuple[float, float],
    prefix: str,
    label: str,
) -> Markup:
    """A figure of several plots, one below the other, over the same x axis; otherwise as `draw`.

    Args:
        paint: draws into the axes, from the top to the bottom.
        heights: of the plots, relative to each other.
        size: as in `draw`, of the whole figure.
        prefix: as in `draw`.
        label: as in `draw`.

    """
    with _style(prefix):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
        paint([row[0] for row in axes])
        file = io.StringIO()
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=empty)
    return Markup(_inline(file.getvalue(), prefix, label))


@contextmanager
def _style(salt: str) -> Iterator[None]:
    # The defaults first, so that a user's own matplotlibrc changes nothing.
    with matplotlib.style.context(["default", _STYLE | {"svg.hashsalt": salt}]):
        yield


def _inline(text: str, prefix: str, label: str) -> str:
    text = text[text.index("<svg") :]
    for unwanted in ("metadata", "style"):  # matplotlib's style sheet would reach the whole page
        text = re.sub(rf"<{unwanted}\b.*?</{unwanted}>\s*", "", text, flags=re.DOTALL)
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    assert box is not None
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = body.replace('xlink:href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    body = body.replace(f"; font-family: {_FAMILY}", "")  # the page's own font
    body = _COORDINATES.sub(lambda m: m[1] + _DIGITS.sub(lambda n: f"{float(n[0]):.2f}", m[2]), body)
    body = re.sub(r"\s*\n\s*", " ", body)
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{Markup.escape(label)}">{body}'

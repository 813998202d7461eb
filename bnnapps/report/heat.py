"""One number a layer and epoch, as a map: rows are layers, columns epochs, and more colour is more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bnnapps.report.figures import WIDTH, Plot
from bnnapps.report.series import Series, thinned
from bnnapps.report.svg import SERIES, draw

ROWS, COLUMNS, LEVELS = 40, 60, 8
"""Most rows and columns, and the number of shades; more layers are thinned, more epochs are averaged."""
_LABELS = 20


def heat_plot(title: str, rows: Sequence[Series], prefix: str, remark: str) -> Plot:
    """A map of numbers between 0 and 1, one row a series; shades go with the root, so that small ones can be seen."""
    shown = [rows[i] for i in thinned(len(rows), ROWS)]
    epochs = max(len(s) for s in shown)
    width = max(1, math.ceil(epochs / COLUMNS))
    cells = [_averaged(s.values, width) for s in shown]
    largest = max((v for row in cells for v in row), default=0.0)

    def paint(axes: Axes) -> None:
        for level in range(1, LEVELS + 1):
            boxes = [
                _box(x, y, width, epochs)
                for y, row in enumerate(cells)
                for x, value in enumerate(row)
                if shade(value, largest) == level
            ]
            if boxes:
                patch = PathPatch(Path.make_compound_path(*boxes), linewidth=0, gid=f"level-{level}")
                patch.set(facecolor=SERIES[1], alpha=level / LEVELS)
                axes.add_patch(patch)
        labelled = thinned(len(shown), _LABELS)
        axes.set_yticks([i + 0.5 for i in labelled], [_tail(shown[i].name) for i in labelled], fontsize=8)
        axes.set_ylim(len(shown), 0)
        axes.set_xlim(0, epochs)
        axes.set_xlabel("epochs")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.grid(False)
        axes.tick_params(axis="y", length=0)

    height = 0.7 + 0.17 * max(4, len(shown))
    left_out = "" if len(shown) == len(rows) else f" {len(shown)} of {len(rows)} layers."
    full = f"{remark} Blank: 0; darkest: {largest:.3g}.{left_out}"
    return Plot(title, draw(paint, (WIDTH, height), prefix, f"{title}, {len(rows)} layers"), (), full)


def shade(value: float, largest: float) -> int:
    """The shade of a value, 0 to `LEVELS`: ceil(LEVELS sqrt(value / largest))."""
    if value <= 0 or largest <= 0:
        return 0
    return max(1, min(LEVELS, math.ceil(LEVELS * math.sqrt(value / largest) - 1e-9)))


def _averaged(values: Sequence[float], width: int) -> list[float]:
    return [sum(values[i : i + width]) / len(values[i : i + width]) for i in range(0, len(values), width)]


def _box(column: int, row: int, width: int, epochs: int) -> Path:
    left, right = column * width, min(epochs, (column + 1) * width)
    corners = [(left, row), (right, row), (right, row + 1), (left, row + 1), (left, row)]
    return Path(corners, [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY])


def _tail(name: str, length: int = 22) -> str:
    """The end of a layer's name, which tells it from the others."""
    return name if len(name) <= length else "…" + name[1 - length :]

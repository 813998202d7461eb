"""The task's part of the report: masks laid over images, the overlap of each class, and what is taken for what."""

from __future__ import annotations

import base64
import colorsys
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from bnnapps.plugins.segmentation.augment import resized
from bnnapps.plugins.segmentation.metrics import intersection_over_union
from bnnapps.plugins.segmentation.sets import IGNORE
from bnnapps.report.svg import SERIES, draw

MOST_IMAGES = 6
LARGEST_SIDE = 480
"""Larger images are embedded at this size."""
MOST_CLASSES = 21
"""The confusion matrix is drawn up to so many classes."""
_OPACITY = 0.6
_BACKGROUNDS = ("rest", "background")

Colours = NDArray[np.uint8]


def colours_of(classes: Sequence[str]) -> Colours:
    """A colour for each class, (C, 3), that neighbours in the list do not share; a background is dark."""
    found = np.zeros((len(classes), 3), dtype=np.uint8)
    for i, name in enumerate(classes):
        if i == 0 and name in _BACKGROUNDS:
            found[i] = (40, 44, 52)
            continue
        # Steps of the golden ratio spread hues evenly however many there are.
        hue, value = (0.08 + 0.618034 * i) % 1.0, (1.0, 0.8, 0.62)[(i // 5) % 3]
        found[i] = [round(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.78 if i % 2 else 0.62, value)]
    return found


def overlaid(image: Tensor, mask: Tensor, colours: Colours) -> NDArray[np.uint8]:
    """The image (3, H, W) under the colours of its mask (H, W), uint8 (H, W, 3); ignored pixels turn light grey."""
    table = np.full((256, 3), 200, dtype=np.float64)
    table[: len(colours)] = colours
    table[IGNORE] = 235
    pixels = image.permute(1, 2, 0).numpy().astype(np.float64)
    paint = table[mask.numpy()]
    mixed: NDArray[np.uint8] = np.round((1 - _OPACITY) * pixels + _OPACITY * paint).astype(np.uint8)
    return mixed


def overlay_sheet(
    images: Sequence[Tensor], masks: Sequence[Tensor], predicted: Mapping[str, Sequence[Tensor]], classes: Sequence[str]
) -> str:
    """One row an image: as it is, the true mask over it, and each network's, as HTML.

    Args:
        images: uint8 (3, H, W), at most `MOST_IMAGES` of which are drawn.
        masks: uint8 (H, W).
        predicted: class numbers (H, W) for each image, by the name of the network, such as `float` and `binary`.
        classes: their names.

    """
    colours, cells, used = colours_of(classes), "", set[int]()
    for at, (image, mask) in enumerate(zip(images[:MOST_IMAGES], masks, strict=False)):
        small, truth = _fitted(image, mask)
        cells += _cell(small.permute(1, 2, 0).numpy(), "image", f"dev image {at + 1}")
        cells += _cell(overlaid(small, truth, colours), "truth", f"true mask of dev image {at + 1}")
        used |= set(truth.unique().tolist()) - {IGNORE}
        for name, each in predicted.items():
            guess = each[at].to(mask.dtype)
            right = float(((guess == mask) & (mask != IGNORE)).sum()) / max(1, int((mask != IGNORE).sum()))
            picture = overlaid(small, _fitted(image, guess)[1], colours)
            cells += _cell(picture, f"{name}, {right:.1%} of pixels right", f"mask that {name} predicts")
            used |= set(guess.unique().tolist())
    keys = "".join(
        f'<li style="display:flex;align-items:center;gap:.35rem"><span style="display:inline-block;width:.8rem;'
        f'height:.8rem;border-radius:2px;background:rgb({",".join(map(str, colours[i].tolist()))})"></span>'
        f"{html.escape(classes[i])}</li>"
        for i in sorted(used)
    )
    columns = f"repeat({2 + len(predicted)},minmax(0,1fr))"
    legend = f'<ul class="legend">{keys}</ul>'
    return f'{legend}<div style="display:grid;grid-template-columns:{columns};gap:.9rem .75rem">{cells}</div>'


def _fitted(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    height, width = image.shape[1:]
    factor = min(1.0, LARGEST_SIDE / max(height, width))
    return resized(image, mask, (max(1, round(height * factor)), max(1, round(width * factor))))


def _cell(pixels: NDArray[np.uint8], caption: str, description: str) -> str:
    text = f'<figcaption style="font-size:.8rem;line-height:1.3">{html.escape(caption)}</figcaption>'
    style = "width:100%;height:auto;display:block"
    return f'<figure style="margin:0"><img alt="{description}" src="{_jpeg(pixels)}" style="{style}">{text}</figure>'


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=90, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def class_table(matrix: Tensor, classes: Sequence[str], images: int) -> str:
    """IoU, share of the pixels, precision and recall of each class, as an HTML table with bars; below it their mean.

    Args:
        matrix: the confusion matrix, (C, C).
        classes: their names.
        images: how many it is of.

    """
    overlap, counts, hits = intersection_over_union(matrix), matrix.double(), matrix.diagonal().double()
    rows = ""
    for i, name in enumerate(classes):
        if counts[i].sum() == 0:
            rows += f'<tr class="kept"><td>{html.escape(name)}</td><td>not in the dev masks</td>' + "<td></td>" * 3
            rows += "</tr>"
            continue
        share, found = counts[i].sum() / counts.sum(), counts[:, i].sum()
        precision = "–" if found == 0 else f"{float(hits[i] / found):.1%}"
        bar = f'<span style="display:inline-block;height:.65rem;width:{100 * float(overlap[i]):.1f}px;{_BAR}"></span>'
        cells = (
            f"{bar}{float(overlap[i]):.1%}",
            f"{float(share):.1%}",
            precision,
            f"{float(hits[i] / counts[i].sum()):.1%}",
        )
        rows += f"<tr><td>{html.escape(name)}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    head = "".join(f"<th>{name}</th>" for name in ("class", "IoU", "share of pixels", "precision", "recall"))
    there = counts.sum(1) > 0
    mean, right = float(overlap[there].mean()), float(hits.sum() / counts.sum())
    remark = f"Mean IoU {mean:.1%}, pixel accuracy {right:.1%}, over {images} dev images."
    return f'<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p class="remark">{remark}</p>'


_BAR = "background:var(--series-1);margin-right:.45rem;border-radius:2px"


def confusion_picture(matrix: Tensor, classes: Sequence[str], unit: str = "pixels") -> str:
    """Which share of each class's pixels (rows) is taken for each class, as a drawing; empty for many classes.

    Args:
        matrix: counts, (C, C).
        classes: their names.
        unit: what is counted.

    """
    size = len(classes)
    if size > MOST_CLASSES:
        return ""
    shares = matrix.double() / matrix.sum(dim=1, keepdim=True).clamp(min=1)

    def paint(axes: Axes) -> None:
        for row in range(size):
            for column in range(size):
                share = float(shares[row, column])
                if share < 0.005:
                    continue
                colour = SERIES[0] if row == column else SERIES[1]
                alpha = 0.04 + 0.16 * share if row == column else min(0.6, 0.1 + share)
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour, alpha=alpha, linewidth=0))
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8)
        names = [name if len(name) <= 14 else name[:13] + "…" for name in classes]
        axes.set_xticks(range(size), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(size), names)
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.set_xlabel("prediction")
        axes.set_ylabel("truth")
        axes.grid(False)
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    inches = 1.8 + 0.36 * size
    drawing = draw(paint, (inches, inches), "confusion", f"Confusion matrix of the {unit} of the dev set")
    remark = f'<p class="remark">Percent of the {unit} of each true class; what rounds to 0 is left out.</p>'
    return f'<figure class="plot" style="max-width:{inches * 1.25:.1f}in">{drawing}</figure>{remark}'

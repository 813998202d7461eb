"""The task's part of the report: wrongly classified images, and which classes are taken for which."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from bnnapps.plugins.classification.metrics import confusion
from bnnapps.report.svg import SERIES, draw

MOST_WRONG = 24
MOST_CLASSES = 20
"""The confusion matrix is drawn up to so many classes; beyond it only the pairs that are confused most are listed."""
MOST_PAIRS = 15
_SIDE = 88


def contact_sheet(images: Tensor, logits: Tensor, labels: Tensor, classes: Sequence[str]) -> str:
    """The wrongly classified images of which the network was surest, each with its label and its prediction.

    Args:
        images: uint8, (N, C, H, W).
        logits: (N, classes).
        labels: (N,).
        classes: their names.

    """
    chances = logits.softmax(dim=1)
    sure, guesses = chances.max(dim=1)
    wrong = (guesses != labels).nonzero().flatten()
    head = f"<p>{len(wrong)} of {len(labels)} dev images are classified wrongly"
    if len(wrong) == 0:
        return f"{head}.</p>"
    wrong = wrong[sure[wrong].argsort(descending=True, stable=True)][:MOST_WRONG]
    cells = "".join(
        _cell(images[i], classes[int(labels[i])], classes[int(guesses[i])], float(sure[i])) for i in wrong.tolist()
    )
    shown = "all of them" if len(wrong) < MOST_WRONG else f"the {len(wrong)} of which the network was surest"
    style = "display:grid;grid-template-columns:repeat(auto-fill,minmax(7.5rem,1fr));gap:.9rem .75rem"
    return f'{head}; here are {shown}.</p><div style="{style}">{cells}</div>'


def _cell(image: Tensor, label: str, guess: str, sure: float) -> str:
    side = f"width:{_SIDE}px;height:{_SIDE}px;object-fit:contain;image-rendering:pixelated;display:block"
    truth, guess = html.escape(label), html.escape(guess)
    text = f"label {truth}<br>taken for <b>{guess}</b>, {sure:.0%}"
    caption = f'<figcaption style="font-size:.8rem;line-height:1.3">{text}</figcaption>'
    picture = f'<img alt="label {truth}, taken for {guess}" src="{data_uri(image)}" style="{side}">'
    return f'<figure style="margin:0">{picture}{caption}</figure>'


def data_uri(image: Tensor) -> str:
    """A uint8 image (C, H, W) as a PNG within the page."""
    from PIL import Image

    array = image[0].numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def confusion_picture(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> str:
    """The confusion matrix as a drawing, or for many classes a table of the pairs that are confused most."""
    counts = confusion(logits, labels)
    if len(classes) > MOST_CLASSES:
        return _pairs(counts, classes)
    shares = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    size = len(classes)

    def paint(axes: Axes) -> None:
        for row in range(size):
            for column in range(size):
                count, share = int(counts[row, column]), float(shares[row, column])
                if count == 0:
                    continue
                colour = SERIES[0] if row == column else SERIES[1]
                # Errors are rare, so their colour rises faster than their share; the numbers stay readable on both.
                alpha = 0.04 + 0.16 * share if row == column else min(0.6, 0.1 + 2 * share)
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour, alpha=alpha, linewidth=0))
                axes.text(column, row, str(count), ha="center", va="center", fontsize=8)
        names = [_cut(name) for name in classes]
        turned = max(map(len, names)) > 3
        axes.set_xticks(range(size), names, rotation=90 if turned else 0)
        axes.set_yticks(range(size), names)
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.set_xlabel("prediction")
        axes.set_ylabel("label")
        axes.grid(False)
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    inches = 1.6 + 0.36 * size
    drawing = draw(paint, (inches, inches), "confusion", "Confusion matrix of the dev images")
    return f'<figure class="plot" style="max-width:{inches * 1.25:.1f}in">{drawing}</figure>'


def _cut(name: str, length: int = 14) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _pairs(counts: Tensor, classes: Sequence[str]) -> str:
    wrong = counts.clone().fill_diagonal_(0)
    order = wrong.flatten().argsort(descending=True, stable=True)[:MOST_PAIRS]
    rows = ""
    for at in order.tolist():
        label, guess = divmod(at, len(classes))
        count = int(wrong[label, guess])
        if count:
            share = f"{count} of {int(counts[label].sum())}"
            rows += (
                f"<tr><td>{html.escape(classes[label])}</td><td>{html.escape(classes[guess])}</td><td>{share}</td></tr>"
            )
    if not rows:
        return "<p>No class is taken for another.</p>"
    return (
        f"<table><thead><tr><th>label</th><th>taken for</th><th>images</th></tr></thead><tbody>{rows}</tbody></table>"
    )

"""The task's part of the report: where the embedding places each class, and what is taken for what."""

from __future__ import annotations

import html
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from bnnapps.report.svg import QUIET, SERIES, draw

MOST_POINTS = 1500
_MARKERS = ("o", "s", "^", "D")
"""More than eight classes share colours, and differ in shape."""


def plane(embedding: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, float]:
    """Two coordinates of each row, and the share of the variance that they hold.

    The directions are those that set the means of the classes apart (the first two principal components of these
    means); where there are only two classes, the second is the principal component of what the first leaves over.
    """
    x = embedding.double() - embedding.double().mean(0)
    known = [c for c in range(classes) if bool((labels == c).any())]
    means = torch.stack([x[labels == c].mean(0) for c in known]) if known else x[:1]
    means = means - means.mean(0)
    _, sizes, right = torch.linalg.svd(means, full_matrices=False)
    axes = right[: int((sizes > 1e-9 * sizes.max().clamp(min=1e-30)).sum())][:2]
    if len(axes) < 2:
        rest = x - (x @ axes.T) @ axes
        _, left_over, more = torch.linalg.svd(rest, full_matrices=False)
        axes = torch.cat([axes, more[left_over > 1e-9 * sizes.max().clamp(min=1e-30)][: 2 - len(axes)]])
    if len(axes) < 2:  # an embedding of one feature
        axes = torch.cat([axes, torch.zeros(2 - len(axes), x.shape[1], dtype=x.dtype)])
    # A direction has no sign of its own: its largest entry is positive, so that the drawing is the same each time.
    turned = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    axes = axes * torch.where(turned == 0, 1.0, turned)
    found = x @ axes.T
    total = x.square().sum()
    return found, float(found.square().sum() / total) if float(total) > 0 else 0.0


def embedding_picture(embedding: Tensor, labels: Tensor, guesses: Tensor, classes: Sequence[str], what: str) -> str:
    """Points in a plane, coloured by their class; those that are classified wrongly have a ring around them.

    Args:
        embedding: (N, F), what the head reads.
        labels: (N,).
        guesses: (N,).
        classes: their names.
        what: the points, such as "nodes".

    """
    if len(embedding) > MOST_POINTS:
        chosen = torch.randperm(len(embedding), generator=torch.Generator().manual_seed(0))[:MOST_POINTS]
        embedding, labels, guesses = embedding[chosen], labels[chosen], guesses[chosen]
    points, share = plane(embedding, labels, len(classes))
    wrong = guesses != labels

    def paint(axes: Axes) -> None:
        for number, name in enumerate(classes):
            own = labels == number
            if not bool(own.any()):
                continue
            colour, marker = SERIES[number % len(SERIES)], _MARKERS[number // len(SERIES) % len(_MARKERS)]
            axes.scatter(
                points[own, 0], points[own, 1], s=18, c=colour, marker=marker, linewidths=0, alpha=0.75, label=name
            )
        if bool(wrong.any()):
            axes.scatter(
                points[wrong, 0],
                points[wrong, 1],
                s=46,
                facecolors="none",
                edgecolors=QUIET,
                linewidths=0.7,
                label="classified wrongly",
            )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9.5, markerscale=1.5)

    drawing = draw(paint, (7.2, 4.4), "embedding", f"The embedding of {what} in a plane")
    text = (
        f"<p>What the last layer reads of each of {len(points)} {html.escape(what)}, laid into the plane that sets the "
        f"means of the classes furthest apart ({share:.0%} of the variance).</p>"
    )
    return f'{text}<figure class="plot" style="max-width:9in">{drawing}</figure>'


def score_picture(scores: Tensor, labels: Tensor) -> str:
    """How the scores of linked and of unlinked pairs are spread."""
    low, high = float(scores.min()), float(scores.max())
    bins = torch.linspace(low, high if high > low else low + 1, 41).tolist()

    def paint(axes: Axes) -> None:
        for number, name in ((0, "not linked"), (1, "linked")):
            axes.hist(scores[labels == number].tolist(), bins=bins, color=SERIES[number], alpha=0.6, label=name)
        axes.set_xlabel("score of a pair")
        axes.set_ylabel("pairs")
        axes.legend(frameon=False)

    drawing = draw(paint, (7.2, 3.2), "scores", "Scores of linked and of unlinked pairs")
    return f'<figure class="plot" style="max-width:9in">{drawing}</figure>'

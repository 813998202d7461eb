"""The task's part of the report: clouds that the mouse turns, and what is taken for what."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bnnapps.plugins.segmentation.pictures import colours_of, confusion_picture

__all__ = ["class_table", "cloud_viewer", "confusion_picture", "viewer_script"]

MOST_POINTS = 2048
"""So many points of a cloud are drawn at most."""
_SCRIPT = Path(__file__).with_name("viewer.js")


def cloud_viewer(
    points: Sequence[Tensor], labels: Sequence[Tensor], scores: Mapping[str, Tensor], classes: Sequence[str]
) -> str:
    """Clouds in rows, each turned by dragging, as HTML that `viewer_script` draws.

    Where each point has a class a cloud is drawn once in the colours of the truth and once in those of each network.

    Args:
        points: (n, C) of each cloud; the first three are x, y and z, with z up.
        labels: of each cloud, a number or (n,).
        scores: (clouds, classes) or (clouds, n, classes), by the name of the network.
        classes: their names.

    """
    colours = ["rgb({})".format(",".join(map(str, c))) for c in colours_of(classes).tolist()]
    per_point = labels[0].dim() == 1
    cells, used = "", set[int]()
    for i, cloud in enumerate(points):
        kept = torch.arange(min(len(cloud), MOST_POINTS))
        places = _encoded(cloud[kept, :3])
        if per_point:
            truth = labels[i][kept]
            cells += _canvas(places, truth.tolist(), "truth", "", i)
            used |= set(truth.unique().tolist())
            for name, each in scores.items():
                guess = each[i].argmax(dim=-1)[kept]
                right = float((guess == truth).double().mean())
                cells += _canvas(places, guess.tolist(), f"{name}, {right:.1%} of points right", "", i)
                used |= set(guess.unique().tolist())
            continue
        label = int(labels[i])
        cells += _canvas(places, None, classes[label], _verdicts(label, i, scores, classes), i)
    columns = f"repeat({1 + len(scores)},minmax(0,20rem))" if per_point else "repeat(auto-fill,minmax(13rem,1fr))"
    keys = "".join(
        f'<li style="display:flex;align-items:center;gap:.35rem"><span style="display:inline-block;width:.8rem;height:'
        f'.8rem;border-radius:2px;background:{colours[c]}"></span>{html.escape(classes[c])}</li>'
        for c in sorted(used)
    )
    legend = f'<ul class="legend">{keys}</ul>' if keys else ""
    text = "Drag a cloud to turn it, turn the wheel over it to come nearer, click twice to begin again."
    if len(points) > 1:
        text += " Up to half of those shown are the worst predicted of the dev set."
    named = html.escape(json.dumps(colours))
    style = f"display:grid;grid-template-columns:{columns};gap:.9rem .75rem"
    grid = f'<div class="clouds" data-colours="{named}" style="{style}">{cells}</div>'
    return f"<p>{text}</p>{legend}{grid}"


def viewer_script() -> str:
    """The script that draws what `cloud_viewer` wrote."""
    return _SCRIPT.read_text(encoding="utf-8")


def _encoded(places: Tensor) -> str:
    """x, y and z of the points, centred and within [-1, 1], as signed bytes in base64."""
    middle = (places.amax(0) + places.amin(0)) / 2
    centred = places - middle
    size = centred.norm(dim=1).max().clamp(min=1e-9)
    numbers = (centred / size * 127).round().clamp(-127, 127).to(torch.int8)
    return base64.b64encode(numbers.numpy().tobytes()).decode("ascii")


def _canvas(places: str, labels: list[int] | None, title: str, below: str, group: int) -> str:
    marks = "" if labels is None else f' data-labels="{base64.b64encode(bytes(labels)).decode("ascii")}"'
    caption = f'<figcaption style="font-size:.8rem;line-height:1.35"><b>{html.escape(title)}</b>{below}</figcaption>'
    label = html.escape(f"cloud {group + 1}: {title}")
    style = "width:100%;aspect-ratio:1;display:block;border-radius:6px;background:var(--band);cursor:grab"
    return (
        f'<figure style="margin:0"><canvas role="img" aria-label="{label}" tabindex="0" data-group="{group}" '
        f'data-points="{places}"{marks} style="{style};touch-action:none"></canvas>{caption}</figure>'
    )


def _verdicts(label: int, index: int, scores: Mapping[str, Tensor], classes: Sequence[str]) -> str:
    """What each network says of a cloud, with how sure it is."""
    found = ""
    for name, each in scores.items():
        shares = each[index].softmax(dim=-1)
        guess = int(shares.argmax())
        colour = "var(--good)" if guess == label else "var(--bad)"
        found += (
            f'<br>{html.escape(name)}: <span style="color:{colour};font-weight:600">{html.escape(classes[guess])}'
            f"</span> {float(shares[guess]):.0%}"
        )
    return found


def class_table(matrix: Tensor, classes: Sequence[str]) -> str:
    """Overlap (IoU), share of the points, precision and recall of each class that occurs, as an HTML table.

    Args:
        matrix: counts of points, (C, C), truth in rows.
        classes: their names.

    """
    counts = matrix.double()
    hits, truth, found = counts.diagonal(), counts.sum(1), counts.sum(0)
    rows = ""
    for i, name in enumerate(classes):
        if not truth[i]:
            continue
        shares = (hits[i] / (truth[i] + found[i] - hits[i]), truth[i] / counts.sum(), hits[i] / truth[i])
        overlap, share, recall = (f"{float(each):.1%}" for each in shares)
        precision = f"{float(hits[i] / found[i]):.1%}" if found[i] else "–"
        cells = "".join(f'<td class="n">{cell}</td>' for cell in (overlap, share, precision, recall))
        rows += f"<tr><td>{html.escape(name)}</td>{cells}</tr>"
    names = ("class", "IoU", "share of points", "precision", "recall")
    head = "".join(f"<th{' class=n' if i else ''}>{name}</th>" for i, name in enumerate(names))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'

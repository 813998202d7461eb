"""Detections drawn on images: the truth beside what each network found."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bnnapps.plugins.detection.average_precision import FALSE, IGNORED, judged
from bnnapps.plugins.detection.metrics import Boxes

SHOWN_SCORE = 0.3
MOST_IMAGES = 8
LARGEST_SIDE = 480
"""Larger images are embedded at this size."""
_COLOURS = (
    "#ffd84d",
    "#4dd2ff",
    "#ff6fae",
    "#5ee68f",
    "#ff9f45",
    "#bfa0ff",
    "#ff7363",
    "#8ff0dc",
    "#d9f25c",
    "#f2b5ff",
)
_CROWDED = 12
"""Where more boxes are drawn, their names would cover the picture: they then show when the mouse rests on a box."""


def detection_sheet(
    images: Sequence[Tensor],
    targets: Sequence[Boxes],
    detections: Mapping[str, Sequence[Boxes]],
    classes: Sequence[str],
    score_threshold: float = SHOWN_SCORE,
) -> str:
    """One row an image: the truth, then what each network found, as HTML with inline SVG over embedded images.

    Boxes that VOC's rules call false at IoU 0.5 are dashed. At most `MOST_IMAGES` images are drawn, the first ones.

    Args:
        images: float (3, H, W) in [0, 1] or uint8.
        targets: of each image, in its pixels.
        detections: for each network by name, such as `float` and `binary`, what it found on each image.
        classes: names of the labels 1 to C.
        score_threshold: detections below it are not drawn.

    """
    rows = ""
    used: set[int] = set()
    for at, (image, target) in enumerate(zip(images[:MOST_IMAGES], targets, strict=False)):
        found = {name: _sure(each[at], score_threshold) for name, each in detections.items()}
        rows += _row(at, image, target, found, classes)
        used |= {int(label) for each in (target, *found.values()) for label in each["labels"]}
    keys = "".join(
        f'<li style="display:flex;align-items:center;gap:.35rem"><span style="{_swatch(label)}"></span>'
        f"{html.escape(classes[label - 1])}</li>"
        for label in sorted(used)
    )
    legend = f'<ul class="legend">{keys}</ul>' if keys else ""
    shown = min(MOST_IMAGES, len(images))
    text = (
        f"<p>{shown} of the dev images. Detections are drawn from a score of {score_threshold:g} on; dashed ones are "
        "false: of another class than what lies there, less than half on it, or a second time.</p>"
    )
    columns = f"repeat({1 + len(detections)},minmax(0,1fr))"
    return f'{text}{legend}<div style="display:grid;grid-template-columns:{columns};gap:.9rem .75rem">{rows}</div>'


def _sure(found: Boxes, threshold: float) -> dict[str, Tensor]:
    keep = found["scores"] >= threshold
    return {key: found[key][keep].detach().cpu() for key in ("boxes", "scores", "labels")}


def _row(at: int, image: Tensor, target: Boxes, found: Mapping[str, Boxes], classes: Sequence[str]) -> str:
    height, width = image.shape[1:]
    picture = f"detections-{at}"
    embedded = (
        f'<image id="{picture}" href="{data_uri(image)}" width="{width}" height="{height}" '
        'preserveAspectRatio="none" style="image-rendering:auto"/>'
    )
    flags = {key: _flag(target, key) for key in ("difficult", "crowd")}
    notes = ["difficult" if d else "crowd" if c else "" for d, c in zip(*flags.values(), strict=True)]
    marks = _marks(target["boxes"], target["labels"], notes, [False] * len(notes), classes, width)
    cells = _cell(embedded, marks, width, height, f"truth: {_count(len(notes), 'object')}")
    for name, each in found.items():
        wrong = _wrong(each, target)
        scores = [f"{score:.2f}" for score in each["scores"].tolist()]
        marks = _marks(each["boxes"], each["labels"], scores, wrong, classes, width)
        caption = f"{name}: {_count(len(wrong), 'detection')}"
        if any(wrong):
            caption += f", {sum(wrong)} false"
        cells += _cell(f'<use href="#{picture}"/>', marks, width, height, caption)
    return cells


def _flag(target: Boxes, key: str) -> list[bool]:
    return target[key].tolist() if key in target else [False] * len(target["labels"])


def _wrong(found: Boxes, target: Boxes) -> list[bool]:
    """Which detections are false, judged class by class."""
    boxes, objects = (each["boxes"].double().cpu().numpy().reshape(-1, 4) for each in (found, target))
    labels, there = (each["labels"].cpu().numpy() for each in (found, target))
    scores = found["scores"].double().numpy()
    difficult, crowd = (np.array(_flag(target, key), bool) for key in ("difficult", "crowd"))
    outcome = np.full(len(labels), IGNORED)
    for label in np.unique(labels):
        own, same = labels == label, there == label
        outcome[own] = judged(boxes[own], scores[own], objects[same], difficult[same], crowd[same])
    return [bool(each) for each in outcome == FALSE]


def _marks(
    boxes: Tensor, labels: Tensor, notes: Sequence[str], dashed: Sequence[bool], classes: Sequence[str], width: int
) -> str:
    """The boxes, smaller ones above larger ones, each with its name where they are few."""
    size = max(5.0, width / 24)
    written = len(notes) <= _CROWDED
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    found = ""
    for i in areas.argsort(descending=True).tolist():
        x1, y1, x2, y2 = boxes[i].tolist()
        label = int(labels[i])
        name = " ".join(filter(None, (classes[label - 1], notes[i])))
        place = f'x="{x1:.1f}" y="{y1:.1f}" width="{max(0.0, x2 - x1):.1f}" height="{max(0.0, y2 - y1):.1f}"'
        line = 'fill="none" vector-effect="non-scaling-stroke"'
        dashes = ' stroke-dasharray="5 4"' if dashed[i] else ""
        found += f'<rect {place} {line} stroke="#000" stroke-opacity=".55" stroke-width="4"/>'
        found += (
            f'<rect {place} {line} stroke="{_colour(label)}" stroke-width="2"{dashes} pointer-events="all">'
            f"<title>{html.escape(name)}{', false' if dashed[i] else ''}</title></rect>"
        )
        if written:
            top = y1 - 0.3 * size if y1 > 1.3 * size else y1 + size
            found += (
                f'<text x="{max(0.0, x1) + 0.15 * size:.1f}" y="{top:.1f}" font-size="{size:.1f}" '
                f'fill="{_colour(label)}" stroke="#000" stroke-width="{size / 4:.1f}" paint-order="stroke" '
                f'stroke-linejoin="round" pointer-events="none">{html.escape(name)}</text>'
            )
    return found


def _cell(image: str, marks: str, width: int, height: int, caption: str) -> str:
    label = html.escape(caption)
    drawing = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}" '
        f'style="display:block;width:100%;height:auto">{image}{marks}</svg>'
    )
    return (
        '<figure style="margin:0;break-inside:avoid">'
        f'{drawing}<figcaption style="font-size:.82rem;line-height:1.35;margin-top:.2rem">{label}</figcaption></figure>'
    )


def _colour(label: int) -> str:
    return _COLOURS[(label - 1) % len(_COLOURS)]


def _swatch(label: int) -> str:
    size, edge = "display:inline-block;width:.8rem;height:.8rem", "box-shadow:0 0 0 1px rgba(0,0,0,.55)"
    return f"{size};background:{_colour(label)};{edge}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def data_uri(image: Tensor) -> str:
    """An image within the page: a PNG where it is small, else a JPEG of at most `LARGEST_SIDE` pixels a side.

    Args:
        image: float (3, H, W) in [0, 1] or uint8.

    """
    from PIL import Image

    pixels = image.detach().cpu()
    if pixels.dtype != torch.uint8:
        pixels = (pixels.float() * 255).round().clamp(0, 255).to(torch.uint8)
    found = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    file = io.BytesIO()
    if max(found.size) <= 160:
        found.save(file, format="PNG", optimize=True)
        kind = "png"
    else:
        found.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        found.save(file, format="JPEG", quality=85)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"

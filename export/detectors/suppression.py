"""Non-maximum suppression with sizes that do not depend on what is found, written as ONNX's own operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.export.graph.mark import mark


@torch.library.custom_op(
    "bnnapps::suppress",
    mutates_args=(),
    schema="(Tensor boxes, Tensor scores, float overlap, float lowest, int most) -> Tensor",
)
def _suppress(boxes: Tensor, scores: Tensor, overlap: float, lowest: float, most: int) -> Tensor:
    from torchvision.ops import nms

    kept = torch.zeros_like(scores)
    for image in range(scores.shape[0]):
        for label in range(scores.shape[1]):
            row = scores[image, label]
            (candidates,) = torch.where(row > lowest)
            chosen = candidates[nms(boxes[image, candidates], row[candidates], overlap)[:most]]
            kept[image, label, chosen] = row[chosen]
    return kept


@_suppress.register_fake
def _suppress_shape(boxes: Tensor, scores: Tensor, overlap: float, lowest: float, most: int) -> Tensor:
    return torch.empty_like(scores)


def suppress(boxes: Tensor, scores: Tensor, overlap: float, lowest: float, most: int) -> Tensor:
    """Scores of the boxes that survive greedy non-maximum suppression within their class; 0 for all others.

    In the order of falling scores a box is kept unless its intersection over union with a kept box of its image and
    class is greater than `overlap`. ONNX's `NonMaxSuppression` chooses the same.

    Args:
        boxes: (B, N, 4), x1, y1, x2, y2 in pixels.
        scores: (B, C, N), at least 0.
        overlap: largest intersection over union of two kept boxes.
        lowest: scores up to it are left out.
        most: number of boxes that are kept in a class at most.

    Returns:
        (B, C, N).

    """
    kept: Tensor = _suppress(boxes, scores, overlap, lowest, most)
    return kept


@torch.library.custom_op("bnnapps::best", mutates_args=(), schema="(Tensor scores, int count) -> Tensor")
def _best(scores: Tensor, count: int) -> Tensor:
    return scores.argsort(dim=-1, descending=True, stable=True)[..., :count].contiguous()


@_best.register_fake
def _best_shape(scores: Tensor, count: int) -> Tensor:
    return scores.new_empty((*scores.shape[:-1], count), dtype=torch.int64)


def best(scores: Tensor, count: int) -> Tensor:
    """Places of the highest entries of each row (last dimension) in falling order; of equal ones the first come first.

    That order is the one of ONNX's `TopK`, and not specified for `torch.topk`.

    (..., N) to (..., min(count, N)), int64.
    """
    places: Tensor = _best(scores, min(count, scores.shape[-1]))
    return places


class Suppression(nn.Module):
    """`suppress` under a name, so that an exported file can be compared with torch choice by choice.

    Attributes:
        site: the name.

    """

    def __init__(self, site: str, overlap: float, lowest: float, most: int) -> None:
        super().__init__()
        self.site, self.overlap, self.lowest, self.most = site, overlap, lowest, most

    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """(B, N, 4) and (B, C, N) to (B, C, N)."""
        return mark(suppress(boxes, scores, self.overlap, self.lowest, self.most), self.site, "choice")


def translation() -> dict[Any, Any]:
    """How `torch.onnx.export` writes `suppress` and `best`: its `custom_translation_table`."""
    from onnxscript import opset18 as op

    def write(boxes: Any, scores: Any, overlap: float, lowest: float, most: int) -> Any:
        limits = (op.Constant(value_int=most), op.Constant(value_float=overlap), op.Constant(value_float=lowest))
        chosen = op.NonMaxSuppression(boxes, scores, *limits)
        zeros = op.ConstantOfShape(op.Shape(scores))
        return op.ScatterND(zeros, chosen, op.GatherND(scores, chosen))

    def write_best(scores: Any, count: int) -> Any:
        return op.TopK(scores, op.Constant(value_ints=[count]), axis=-1)[1]

    return {torch.ops.bnnapps.suppress.default: write, torch.ops.bnnapps.best.default: write_best}


def highest(scores: Tensor, count: int) -> Tensor:
    """The `count` highest entries of each row (last dimension) in their places, and 0 in all others.

    (..., N) to (..., N).
    """
    if count >= scores.shape[-1]:
        return scores
    places = best(scores, count)
    return torch.zeros_like(scores).scatter(-1, places, torch.gather(scores, -1, places))

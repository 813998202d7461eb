"""Overlap of predicted and true masks, from one confusion matrix over the whole dev set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.errors import TrainingError
from bnnapps.plugins.segmentation.sets import IGNORE


def confusion(predicted: Tensor, masks: Tensor, classes: int) -> Tensor:
    """How many pixels of each class (rows) were taken for each class (columns), for each image.

    Args:
        predicted: class numbers, (N, H, W).
        masks: class numbers and `IGNORE`, (N, H, W); ignored pixels count nowhere.
        classes: C.

    Returns:
        int64, (N, C, C).

    """
    count = predicted.shape[0]
    truth, guess = masks.reshape(count, -1).long(), predicted.reshape(count, -1).long()
    image = torch.arange(count, device=truth.device)[:, None].expand_as(truth)
    counted = truth != IGNORE
    at = (image * classes + truth) * classes + guess
    found: Tensor = torch.bincount(at[counted], minlength=count * classes * classes)
    return found.reshape(count, classes, classes)


def pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """The summed cross-entropy and the number of pixels that count, for each image: float64 (N, 2)."""
    each = F.cross_entropy(logits, masks, ignore_index=IGNORE, reduction="none").flatten(1)
    return torch.stack([each.double().sum(1), (masks != IGNORE).flatten(1).sum(1).double()], dim=1)


def intersection_over_union(matrix: Tensor) -> Tensor:
    """IoU of each class: n_ii / (sum_j n_ij + sum_j n_ji - n_ii), float64 (C,).

    NaN for a class that is neither in a mask nor predicted (Everingham et al., VOC, 2015).
    """
    matrix = matrix.double()
    hits = matrix.diagonal()
    return hits / (matrix.sum(0) + matrix.sum(1) - hits)


def compute(matrix: Tensor, losses: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """`miou`, `pixel_accuracy`, `loss`, and `iou/NAME` of each class that occurs.

    Args:
        matrix: the confusion matrix of the dev set, (C, C).
        losses: `pixel_loss` summed over its images, (2,).
        classes: their names.

    The mean is taken over the classes that occur in the masks; a class that is only predicted would be 0 there.

    Raises:
        TrainingError: the loss is not finite, or no pixel counts.

    """
    if not bool(torch.isfinite(losses).all()):
        raise TrainingError("the model's predictions are not finite, so training has diverged; lower the learning rate")
    total = float(losses[1])
    if total == 0:
        raise TrainingError("every pixel of the dev masks is ignored, so there is nothing to evaluate: check the masks")
    overlap, there = intersection_over_union(matrix), matrix.sum(1) > 0
    found = {
        "miou": float(overlap[there].mean()),
        "pixel_accuracy": float(matrix.diagonal().sum() / matrix.sum()),
        "loss": float(losses[0]) / total,
    }
    return found | {f"iou/{classes[i]}": float(overlap[i]) for i in there.nonzero().flatten().tolist()}

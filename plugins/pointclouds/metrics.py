"""Accuracy and overlap over a whole dev set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.errors import TrainingError


def check_finite(values: Tensor) -> None:
    """Raise `TrainingError` where predictions are not finite."""
    if not bool(torch.isfinite(values).all()):
        raise TrainingError("the model's predictions are not finite, so training has diverged; lower the learning rate")


def of_classes(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """`accuracy` of clouds, its mean over the classes that occur (`class_accuracy`), and `loss`.

    Args:
        logits: (N, classes).
        labels: (N,).

    """
    check_finite(logits)
    right = (logits.argmax(dim=1) == labels).double()
    counts = torch.bincount(labels, minlength=logits.shape[1])
    hits = torch.bincount(labels, weights=right, minlength=logits.shape[1])
    there = counts > 0
    return {
        "accuracy": float(right.mean()),
        "class_accuracy": float((hits[there] / counts[there]).mean()),
        "loss": float(F.cross_entropy(logits, labels)),
    }


def cloud_confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How many points of each class (rows) were taken for each class (columns), for each cloud: int64 (N, C, C).

    Args:
        predicted: (N, n).
        labels: (N, n).
        classes: C.

    """
    cloud = torch.arange(len(labels))[:, None].expand_as(labels)
    at = (cloud * classes + labels) * classes + predicted
    found: Tensor = torch.bincount(at.flatten(), minlength=len(labels) * classes * classes)
    return found.view(len(labels), classes, classes)


def restricted(logits: Tensor, categories: Tensor, parts: Sequence[Sequence[int]]) -> Tensor:
    """Scores (N, n, C) in which a cloud has only the parts of its category; the others are -inf."""
    if not parts:
        return logits
    allowed = torch.zeros(len(parts), logits.shape[-1], dtype=torch.bool)
    for i, own in enumerate(parts):
        allowed[i, list(own)] = True
    return logits.masked_fill(~allowed[categories][:, None], -torch.inf)


def of_parts(matrices: Tensor, categories: Tensor, parts: Sequence[Sequence[int]]) -> dict[str, float]:
    """Mean overlap of parts: over all clouds (`instance_miou`), and over the categories that occur (`category_miou`).

    The overlap of a cloud is the mean over the parts of its category of n_ii / (sum_j n_ij + sum_j n_ji - n_ii), and 1
    for a part that is neither there nor predicted (Yi et al., TOG 2016). `point_accuracy` counts points.

    Args:
        matrices: of each cloud, (N, C, C).
        categories: (N,).
        parts: the classes of each category.

    """
    matrices = matrices.double()
    hits = matrices.diagonal(dim1=1, dim2=2)
    union = matrices.sum(1) + matrices.sum(2) - hits
    overlap = torch.where(union > 0, hits / union.clamp(min=1), torch.ones_like(hits))
    each = torch.stack([overlap[i, list(parts[int(kind)])].mean() for i, kind in enumerate(categories)])
    kinds = [each[categories == kind].mean() for kind in categories.unique()]
    return {
        "instance_miou": float(each.mean()),
        "category_miou": float(torch.stack(kinds).mean()),
        "point_accuracy": float(hits.sum() / matrices.sum()),
    }


def of_scene(matrix: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """`miou` over the classes that occur, `point_accuracy`, and `iou/NAME` of each class.

    Args:
        matrix: of the whole dev set, (C, C).
        classes: their names.

    """
    matrix = matrix.double()
    hits = matrix.diagonal()
    overlap, there = hits / (matrix.sum(0) + matrix.sum(1) - hits).clamp(min=1), matrix.sum(1) > 0
    found = {"miou": float(overlap[there].mean()), "point_accuracy": float(hits.sum() / matrix.sum())}
    return found | {f"iou/{classes[i]}": float(overlap[i]) for i in there.nonzero().flatten().tolist()}

"""Accuracy and loss over a whole dev set, with torchmetrics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from bnnapps.errors import TrainingError


def compute(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """`accuracy` (top-1), `accuracy_top5` (where there are more than five classes) and `loss` (mean cross-entropy).

    Args:
        logits: (N, classes).
        labels: (N,), class numbers.

    Raises:
        TrainingError: logits that are not finite.

    """
    if not torch.isfinite(logits).all():
        raise TrainingError("the model's predictions are not finite, so training has diverged; lower the learning rate")
    classes = logits.shape[1]
    found = {"accuracy": float(multiclass_accuracy(logits, labels, classes, average="micro"))}
    if classes > 5:
        found["accuracy_top5"] = float(multiclass_accuracy(logits, labels, classes, average="micro", top_k=5))
    found["loss"] = float(F.cross_entropy(logits, labels))
    return found


def confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """How many images of each class (rows) were taken for each class (columns), (classes, classes)."""
    found: Tensor = multiclass_confusion_matrix(logits, labels, logits.shape[1])
    return found

"""GLUE's own metrics, computed with torchmetrics.

Where a correlation is not defined because predictions (or labels) are all the same, it is 0: such a model tells nothing
apart. That holds for the Matthews, Pearson and Spearman correlations.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_f1_score,
    multiclass_accuracy,
    multiclass_matthews_corrcoef,
)
from torchmetrics.functional.regression import pearson_corrcoef, spearman_corrcoef

from bnnapps.errors import TrainingError
from bnnapps.plugins.text.glue import MEAN_CORRELATION, GlueTask, get_task


def compute(task: str | GlueTask, predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Every metric of the task, from 0 to 1 (correlations from -1 to 1).

    Args:
        task: the task or its name.
        predictions: logits (N, classes), or scores (N,) or (N, 1) for a regression task.
        labels: class indices or scores, (N,).

    F1 counts class 1 as positive. `pearson_spearman` is the mean of both correlations. Raises ValueError for shapes
    that do not fit, and TrainingError for predictions that are not finite.
    """
    if isinstance(task, str):
        task = get_task(task)
    predictions, labels = _checked(task, predictions.detach().cpu(), labels.detach().cpu())
    if task.regression:
        pearson, spearman = _correlations(predictions, labels)
        values = {"pearson": pearson, "spearman": spearman, MEAN_CORRELATION: (pearson + spearman) / 2}
    else:
        values = _classification(task, predictions, labels)
    return {name: values[name] for name in task.metrics}


def primary(task: str | GlueTask) -> str:
    """The metric that stands in the tables of BiBERT (2022) and BiT (2022) and goes into their averages.

    Matthews correlation for cola, the mean of Pearson and Spearman correlation for stsb, accuracy for all others: also
    for mrpc and qqp, where other papers show F1. An average over GLUE counts both dev sets of mnli.
    """
    return (get_task(task) if isinstance(task, str) else task).primary


def _checked(task: GlueTask, predictions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    expected = (len(labels), task.num_labels)
    fits = tuple(predictions.shape) == expected or (task.regression and predictions.shape == labels.shape)
    if labels.ndim != 1 or len(labels) == 0 or not fits:
        raise ValueError(
            f"{task.name}: predictions {tuple(predictions.shape)} and labels {tuple(labels.shape)} do not fit; "
            f"expected (N, {task.num_labels}) and (N,)"
        )
    if not torch.isfinite(predictions).all():
        raise TrainingError(
            f"{task.name}: the model's predictions are not finite, so training has diverged; lower the learning rate"
        )
    return predictions, labels


def _classification(task: GlueTask, logits: Tensor, labels: Tensor) -> dict[str, float]:
    classes, labels = logits.argmax(dim=1), labels.long()
    accuracy = multiclass_accuracy(classes, labels, num_classes=task.num_labels, average="micro")
    values = {"accuracy": float(accuracy)}
    if "f1" in task.metrics:
        values["f1"] = float(binary_f1_score(classes, labels))
    if "matthews_correlation" in task.metrics:
        same = _constant(classes) or _constant(labels)
        values["matthews_correlation"] = (
            0.0 if same else float(multiclass_matthews_corrcoef(classes, labels, num_classes=task.num_labels))
        )
    return values


def _correlations(predictions: Tensor, labels: Tensor) -> tuple[float, float]:
    """Pearson and Spearman correlation, in float64: predictions often differ in their last digits only."""
    x, y = predictions.reshape(-1).double(), labels.reshape(-1).double()
    if _constant(x) or _constant(y):
        return 0.0, 0.0
    return float(pearson_corrcoef(x, y)), float(spearman_corrcoef(x, y))


def _constant(values: Tensor) -> bool:
    return bool((values == values[0]).all())

"""Scores over the dev and the test part."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from bnnapps.errors import TrainingError
from bnnapps.plugins.graphs.sets import DEV, TEST


def compute(logits: Tensor, labels: Tensor, part: Tensor, links: bool) -> dict[str, float]:
    """The scores of the dev part, and with `test_` before their names those of the test part, where there is one.

    For classes `accuracy` and `loss` (mean cross-entropy); for links `auc` (area under the ROC curve),
    `average_precision` and `loss`.

    Args:
        logits: (N, classes); for links of two classes, linked being the second.
        labels: (N,).
        part: (N,), of DEV and TEST.
        links: whether pairs of nodes are told apart.

    Raises:
        TrainingError: logits that are not finite.

    """
    if not torch.isfinite(logits).all():
        raise TrainingError("the model's predictions are not finite, so training has diverged; lower the learning rate")
    found: dict[str, float] = {}
    for number, prefix in ((DEV, ""), (TEST, "test_")):
        rows = part == number
        if not bool(rows.any()):
            continue
        own, truth = logits[rows], labels[rows]
        if links:
            scores = own[:, 1] - own[:, 0]
            found[f"{prefix}auc"] = float(binary_auroc(scores, truth))
            found[f"{prefix}average_precision"] = float(binary_average_precision(scores, truth))
        else:
            found[f"{prefix}accuracy"] = float((own.argmax(1) == truth).double().mean())
        found[f"{prefix}loss"] = float(F.cross_entropy(own, truth))
    return found

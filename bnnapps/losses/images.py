"""Losses of image classifiers: squared hinge, and distances of attention maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.errors import UsageError


def squared_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over batch and classes of max(0, 1 - t y)^2, with t = +1 for the label's class and -1 for all others.

    What BNN (Courbariaux, Hubara et al., 2016) trains with.

    Args:
        logits: y, (B, classes).
        labels: (B,), class numbers.

    Gradient in y: -2 t max(0, 1 - t y) / (B classes).

    Raises:
        UsageError: the shapes do not fit, or the labels are no class numbers.

    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or labels.is_floating_point():
        raise UsageError(
            f"squared hinge: logits {tuple(logits.shape)} and labels {tuple(labels.shape)} ({labels.dtype}) do not "
            "fit; expected (B, classes) and (B,) class numbers"
        )
    targets = 2.0 * F.one_hot(labels, logits.shape[1]).to(logits.dtype) - 1.0
    return F.relu(1.0 - targets * logits).square().mean()


def attention_map(features: Tensor) -> Tensor:
    """Where a feature map is strong: Q = mean over channels of x^2, flattened and divided by its L2 norm.

    Zagoruyko, Komodakis: Paying More Attention to Attention, ICLR 2017.

    Args:
        features: (B, C, ...), such as (B, C, H, W).

    Returns:
        (B, H W) in float32 at least; a map that is all zero stays zero.

    """
    if features.dim() < 3:
        raise UsageError(f"attention maps need features (B, C, H, W), not of shape {tuple(features.shape)}")
    x = features if features.dtype == torch.float64 else features.float()
    return F.normalize(x.square().mean(dim=1).flatten(1), dim=1)


def attention_map_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum over stages of the mean over images of || Q_s - Q_t ||, Q = `attention_map` (Real-to-Binary, ICLR 2020).

    Args:
        student: one tensor a stage, (B, C, H, W).
        teacher: as many, with the same B, H and W; the number of channels may differ.

    Each norm lies between 0 and sqrt(2), as both maps are unit vectors without negative entries.

    Raises:
        UsageError: the numbers of stages or the sizes of the maps differ.

    """
    if len(student) != len(teacher) or not student:
        raise UsageError(
            f"attention maps: the student has {len(student)} stages and the teacher {len(teacher)}: they must have as "
            "many, at least one"
        )
    total = []
    for number, (s, t) in enumerate(zip(student, teacher, strict=True), 1):
        own, other = attention_map(s), attention_map(t)
        if own.shape != other.shape:
            raise UsageError(
                f"attention maps: in stage {number} the student has {tuple(s.shape)} and the teacher {tuple(t.shape)}: "
                "batch, height and width must be the same"
            )
        total.append(torch.linalg.vector_norm(own - other, dim=1).mean())
    return torch.stack(total).sum()

"""Distances between a student and its teacher: outputs, hidden states, attention.

The published losses of TernaryBERT and BinaryBERT (hidden states and attention scores), BiBERT (directions) and BiT
(hidden states and outputs) are sums of these. Every function is pure and differentiable in both arguments; the
caller detaches the teacher.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.errors import UsageError


def soft_cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    reduction: Literal["mean", "batch"] = "mean",
) -> Tensor:
    """Mean of -softmax(t / T) log_softmax(s / T), with s and t the logits of student and teacher.

    Args:
        student_logits: (..., classes).
        teacher_logits: the same shape.
        temperature: T. There is no factor T^2.
        reduction: "mean" divides by the number of rows times the number of classes, as the released code of BiBERT
            (2022) and BiT (2022) does, so two classes halve the loss; "batch" divides by the number of rows alone,
            which is the cross-entropy of Hinton et al. (2015).

    Gradient in s: (softmax(s / T) - softmax(t / T)) / (T n), with n the divisor. One logit always gives 0.

    Raises:
        UsageError: the shapes differ, or T is not positive.

    """
    _same_shape("logits", student_logits, teacher_logits)
    if temperature <= 0:
        raise UsageError(f"temperature is {temperature}: it must be positive")
    if reduction not in ("mean", "batch"):
        raise UsageError(f"reduction is '{reduction}': it must be 'mean' or 'batch'")
    classes = student_logits.shape[-1]
    target = torch.softmax(teacher_logits / temperature, dim=-1).reshape(-1, classes)
    loss = F.cross_entropy((student_logits / temperature).reshape(-1, classes), target)
    return loss / classes if reduction == "mean" else loss


def logit_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean of (s - t)^2 over all logits; what BiBERT (2022) matches on the regression task STS-B. Any shape."""
    _same_shape("logits", student_logits, teacher_logits)
    return F.mse_loss(student_logits, teacher_logits)


def hidden_mse(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum over the layers of the mean of (s - t)^2 (TernaryBERT, 2020; BinaryBERT, 2021; BiT, 2022).

    Args:
        student: one tensor a layer, (B, L, D): usually the embedding output and the output of every layer.
        teacher: as many, of the same shapes.

    Positions that are padding count like the others, as in the released code.

    """
    return torch.stack([F.mse_loss(s, t) for s, t in _paired("hidden states", student, teacher)]).sum()


def direction_matching(student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> Tensor:
    """|| x / ||x|| - y / ||y|| ||, summed over layers: the direction-matching distillation of BiBERT (2022).

    ||.|| is the Frobenius norm over the whole tensor of a batch, so the distance of two layers is between 0 (same
    direction) and 2 (opposite) whatever the size of the batch. Scaling x or y changes nothing.

    Args:
        student: a tensor of any shape, or one for each layer.
        teacher: the same shapes.

    Norms are taken in float32 at least. A tensor that is all zero has the direction 0 and the gradient of the
    identity, so nothing becomes NaN. Where both directions agree exactly, the gradient is 0.

    """
    if isinstance(student, Tensor) and isinstance(teacher, Tensor):
        student, teacher = [student], [teacher]
    pairs = _paired("tensors", list(student), list(teacher))
    return torch.stack([torch.linalg.vector_norm(_direction(s) - _direction(t)) for s, t in pairs]).sum()


def _direction(x: Tensor) -> Tensor:
    x = x if x.dtype == torch.float64 else x.float()
    norm = torch.linalg.vector_norm(x)
    return x / torch.where(norm > 0, norm, torch.ones_like(norm))


def relation(x: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """X X^T / sqrt(d) in each head: how alike the positions are to each other (BiBERT, 2022).

    Args:
        x: (B, L, heads * d), the output of a query, key or value projection before it is binarized.
        heads: number of heads.
        mask: (B, L), true or 1 at tokens and false or 0 at padding; `None`: no padding.

    Returns:
        (B, heads, L, L); 0 in the rows and columns of padding.

    """
    return attention_scores(x, x, heads, mask)


def attention_scores(query: Tensor, key: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Q K^T / sqrt(d) in each head.

    Args:
        query: (B, L, heads * d).
        key: (B, S, heads * d).
        heads: number of heads.
        mask: (B, L) as in `relation`, where L = S.

    Returns:
        (B, heads, L, S); with a mask 0 in the rows and columns of padding.

    """
    q, k = _split_heads(query, heads), _split_heads(key, heads)
    scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
    return scores if mask is None else without_padding(scores, mask)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    if x.dim() != 3 or heads < 1 or x.shape[-1] % heads:
        raise UsageError(
            f"a projection of shape {tuple(x.shape)} cannot be split into {heads} heads: it must be (B, L, heads * d)"
        )
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).transpose(1, 2)


def without_padding(scores: Tensor, mask: Tensor) -> Tensor:
    """`scores` (B, H, L, L) with 0 where the row or the column is padding; `mask` (B, L) is 1 at tokens.

    The released code of BinaryBERT and BiBERT adds -10000 at padding and sets what is below -100 to 0, for student
    and teacher alike, so that the large constant does not swamp the loss. It does so in the columns; rows of padding
    carry no meaning either.
    """
    keep = mask.to(torch.bool)
    if keep.dim() != 2 or scores.dim() != 4 or keep.shape != (scores.shape[0], scores.shape[-1]):
        raise UsageError(
            f"a mask of shape {tuple(mask.shape)} does not fit scores of shape {tuple(scores.shape)}: it must be (B, L)"
        )
    pairs = keep[:, None, :, None] & keep[:, None, None, :]
    return scores.masked_fill(~pairs, 0.0)


def score_mse(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """Sum over the layers of the mean squared difference of attention scores (TernaryBERT, 2020; BinaryBERT, 2021).

    Args:
        student: one tensor a layer, (B, H, L, L): scores before mask and softmax.
        teacher: as many, of the same shapes.
        mask: (B, L), 1 at tokens. Entries of padding are set to 0 on both sides; the mean still divides by all
            entries, as in the released code.

    A student with fewer heads than its teacher, such as BinaryBERT's ternary network of half the width, has no head
    to pair with each of the teacher's: then the scores averaged over the heads are compared.

    BiBERT (2022) shows that this loss harms a student whose attention is binarized without a softmax.

    """
    pairs = [_matched_heads(s, t) for s, t in _counted("attention scores", student, teacher)]
    for s, t in pairs:
        _same_shape("attention scores", s, t)
    if mask is not None:
        pairs = [(without_padding(s, mask), without_padding(t, mask)) for s, t in pairs]
    return torch.stack([F.mse_loss(s, t) for s, t in pairs]).sum()


def _matched_heads(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if student.dim() == teacher.dim() == 4 and student.shape[1] != teacher.shape[1]:
        return student.mean(dim=1, keepdim=True), teacher.mean(dim=1, keepdim=True)
    return student, teacher


def _counted(what: str, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    if len(student) != len(teacher) or not student:
        raise UsageError(
            f"{what}: the student has {len(student)} and the teacher {len(teacher)}: they must have as many layers, "
            "at least one"
        )
    return list(zip(student, teacher, strict=True))


def _paired(what: str, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    pairs = _counted(what, student, teacher)
    for s, t in pairs:
        _same_shape(what, s, t)
    return pairs


def _same_shape(what: str, student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise UsageError(
            f"{what}: the student has shape {tuple(student.shape)} and the teacher {tuple(teacher.shape)}: they must "
            "be the same"
        )

"""The losses that recipes call by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from bnnapps.errors import UsageError
from bnnapps.losses.distillation import (
    attention_scores,
    direction_matching,
    hidden_mse,
    logit_mse,
    relation,
    score_mse,
    soft_cross_entropy,
)
from bnnapps.losses.hub import Loss, LossInputs, Outputs, heads_of, register_loss, student_logits, tapped
from bnnapps.losses.images import attention_map_distance, squared_hinge
from bnnapps.validation import Record

HIDDEN = "hidden"
"""The tap of the embedding output and of every layer's output."""
SCORES = "scores"
"""The tap of attention scores as the network computes them; without it they come from query and key."""
RELATIONS = ("query", "key", "value")
"""The taps of the projections, one (B, L, heads * d) a layer."""


STAGES = "stages"
"""The tap of the outputs of a convolutional network's stages, (B, C, H, W) each."""


class TaskOptions(Record):
    """Options of the loss `task`."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """e: the target is 1 - e + e / classes for the label and e / classes for every other class."""


class SoftOptions(Record):
    """Options of the loss `soft_cross_entropy`."""

    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits of student and teacher."""
    reduction: Literal["mean", "batch"] = "mean"
    """`mean` also divides by the number of classes, as BiBERT and BiT do; `batch` does not, as ReActNet."""


def task_loss(inputs: LossInputs, options: TaskOptions | None = None) -> Tensor:
    """Cross-entropy with the labels, mean over the batch; for a regression the mean squared error.

    Where the network computes losses itself (a detector), their sum.

    Classes stand on the last dimension, (B, classes) or (B, L, classes); a label of -100 is left out. Labels of the
    shape of the logits are shares of the classes.
    """
    smoothing = 0.0 if options is None else options.label_smoothing
    if inputs.student.losses:
        if smoothing:
            raise UsageError("the loss 'task' is the network's own here, which knows no label_smoothing: drop it")
        return torch.stack(list(inputs.student.losses.values())).sum()
    logits = student_logits(inputs, "task")
    if inputs.labels is None:
        raise UsageError("the loss 'task' needs labels, which were not given")
    if inputs.task == "regression":
        predicted = logits.squeeze(-1) if logits.dim() == inputs.labels.dim() + 1 else logits
        if predicted.shape != inputs.labels.shape:
            raise UsageError(
                f"the loss 'task': logits of shape {tuple(logits.shape)} do not fit real labels of shape "
                f"{tuple(inputs.labels.shape)}: a regression has one logit"
            )
        return F.mse_loss(predicted, inputs.labels.to(predicted.dtype))
    rows = logits.reshape(-1, logits.shape[-1])
    soft = inputs.labels.is_floating_point() and inputs.labels.shape == logits.shape
    targets = inputs.labels.reshape(rows.shape) if soft else inputs.labels.reshape(-1)
    return F.cross_entropy(rows, targets, label_smoothing=smoothing)


def squared_hinge_loss(inputs: LossInputs) -> Tensor:
    """`squared_hinge` of logits and labels."""
    if inputs.labels is None:
        raise UsageError("the loss 'squared_hinge' needs labels, which were not given")
    return squared_hinge(student_logits(inputs, "squared_hinge"), inputs.labels)


def attention_map_loss(inputs: LossInputs) -> Tensor:
    """`attention_map_distance` of the tap `stages`."""
    return attention_map_distance(*inputs.both_taps("attention_map", STAGES))


def soft_cross_entropy_loss(inputs: LossInputs, options: SoftOptions | None = None) -> Tensor:
    """`soft_cross_entropy`, by default at temperature 1 and as the mean over batch and classes."""
    options = SoftOptions() if options is None else options
    student, teacher = inputs.both_logits("soft_cross_entropy")
    if student.shape[-1] == 1:
        raise UsageError(
            "the loss 'soft_cross_entropy' of one logit is always 0: use 'logits' or 'logit_mse' for a regression"
        )
    return soft_cross_entropy(student, teacher, options.temperature, options.reduction)


def logit_mse_loss(inputs: LossInputs) -> Tensor:
    """`logit_mse`."""
    return logit_mse(*inputs.both_logits("logit_mse"))


def logits_loss(inputs: LossInputs) -> Tensor:
    """`soft_cross_entropy` for classes, `logit_mse` for a regression, as BiBERT (2022) does on STS-B."""
    student, teacher = inputs.both_logits("logits")
    return logit_mse(student, teacher) if inputs.task == "regression" else soft_cross_entropy(student, teacher)


def hidden_mse_loss(inputs: LossInputs) -> Tensor:
    """`hidden_mse` of the tap `hidden`."""
    return hidden_mse(*inputs.both_taps("hidden_mse", HIDDEN))


def attention_score_mse_loss(inputs: LossInputs) -> Tensor:
    """`score_mse` of the tap `scores`; of query times key where a network has no such tap."""
    teacher = inputs.of_teacher("attention_score_mse")
    return score_mse(_scores(inputs.student, "student"), _scores(teacher, "teacher"), inputs.mask)


def _scores(outputs: Outputs, who: str) -> list[Tensor]:
    term = "attention_score_mse"
    if outputs.taps.get(SCORES):
        return outputs.taps[SCORES]
    heads = heads_of(outputs, who, term)
    queries, keys = tapped(outputs, who, term, "query"), tapped(outputs, who, term, "key")
    return [attention_scores(q, k, heads) for q, k in zip(queries, keys, strict=True)]


def _hidden_direction(inputs: LossInputs, term: str) -> Tensor:
    return direction_matching(*inputs.both_taps(term, HIDDEN))


def _relation_direction(inputs: LossInputs, term: str, tap: str) -> Tensor:
    students, teachers = inputs.both_taps(term, tap)
    own, other = heads_of(inputs.student, "student", term), heads_of(inputs.of_teacher(term), "teacher", term)
    return direction_matching(
        [relation(x, own, inputs.mask) for x in students], [relation(x, other, inputs.mask) for x in teachers]
    )


def direction_matching_loss(inputs: LossInputs) -> Tensor:
    """BiBERT's distillation: directions of query, key and value relations and of hidden states, each with weight 1."""
    total = _hidden_direction(inputs, "direction_matching")
    for tap in RELATIONS:
        total = total + _relation_direction(inputs, "direction_matching", tap)
    return total


def _single(tap: str) -> Callable[[LossInputs], Tensor]:
    def function(inputs: LossInputs) -> Tensor:
        term = f"direction_matching_{tap}"
        return _hidden_direction(inputs, term) if tap == HIDDEN else _relation_direction(inputs, term, tap)

    return function


_TERMS = [
    Loss(
        "task",
        task_loss,
        "cross-entropy with the labels; mean squared error for a regression; a detector's own losses",
        options=TaskOptions,
    ),
    Loss(
        "soft_cross_entropy",
        soft_cross_entropy_loss,
        "soft cross-entropy with the teacher's logits",
        True,
        options=SoftOptions,
    ),
    Loss("squared_hinge", squared_hinge_loss, "squared hinge with the labels as -1 and +1 (BNN)", soft_labels=False),
    Loss(
        "attention_map",
        attention_map_loss,
        "distances of attention maps, summed over stages (Real-to-Binary)",
        True,
        (STAGES,),
    ),
    Loss("logit_mse", logit_mse_loss, "mean squared error with the teacher's logits", True),
    Loss("logits", logits_loss, "soft_cross_entropy for classes, logit_mse for a regression", True),
    Loss("hidden_mse", hidden_mse_loss, "mean squared error of hidden states, summed over layers", True, (HIDDEN,)),
    Loss(
        "attention_score_mse",
        attention_score_mse_loss,
        "mean squared error of attention scores, summed over layers",
        True,
        ("key", "query", SCORES),
    ),
    Loss(
        "direction_matching",
        direction_matching_loss,
        "directions of query, key, value relations and hidden states, summed over layers (BiBERT)",
        True,
        (*RELATIONS, HIDDEN),
    ),
    Loss(
        "direction_matching_hidden", _single(HIDDEN), "directions of hidden states, summed over layers", True, (HIDDEN,)
    ),
    *(
        Loss(
            f"direction_matching_{tap}",
            _single(tap),
            f"directions of {tap} relations, summed over layers",
            True,
            (tap,),
        )
        for tap in RELATIONS
    ),
]
for _loss in _TERMS:
    register_loss(_loss)

"""The distillation losses of BiFSMN and BiFSMNv2."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bnnapps.errors import UsageError
from bnnapps.losses import Loss, LossInputs, register_loss
from bnnapps.plugins.keywords.wavelet import (
    frequency_independent_distance,
    high_frequency_distance,
    teacher_layer,
)

LAYERS = "layers"
"""The tap with the output of every memory layer that ran."""


def _over_layers(inputs: LossInputs, term: str, distance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The sum of a distance over the student's layers, each beside its layer of the teacher."""
    student, teacher = inputs.both_taps(term, LAYERS)
    try:
        places = [teacher_layer(k, len(student), len(teacher)) for k in range(len(student))]
    except ValueError as problem:
        raise UsageError(f"the loss '{term}': {problem}") from None
    for own, place in zip(student, places, strict=True):
        other = tuple(teacher[place].shape)
        if own.shape != other:
            raise UsageError(
                f"the loss '{term}' compares maps of {tuple(own.shape)} with the teacher's {other}"
                ": give student and teacher the same channels and frames"
            )
    return torch.stack([distance(own, teacher[place]) for own, place in zip(student, places, strict=True)]).sum()


def high_frequency_loss(inputs: LossInputs) -> Tensor:
    """`high_frequency_distance`, summed over the layers (BiFSMN, Qin et al., IJCAI 2022)."""
    return _over_layers(inputs, "high_frequency", high_frequency_distance)


def frequency_independent_loss(inputs: LossInputs) -> Tensor:
    """`frequency_independent_distance`, summed over the layers (BiFSMNv2, Qin et al., TNNLS 2023)."""
    return _over_layers(inputs, "frequency_independent", frequency_independent_distance)


for _loss in (
    Loss(
        "high_frequency",
        high_frequency_loss,
        "directions of squared features, the teacher's with high frequencies emphasized (BiFSMN)",
        needs_teacher=True,
        taps=(LAYERS,),
    ),
    Loss(
        "frequency_independent",
        frequency_independent_loss,
        "directions of squared features, low and high frequencies apart (BiFSMNv2)",
        needs_teacher=True,
        taps=(LAYERS,),
    ),
):
    register_loss(_loss)

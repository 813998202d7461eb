"""Losses of graph networks: local structure of a teacher, and reconstruction by Meta-Aggregator's auto-encoder."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from bnnapps.errors import UsageError
from bnnapps.losses import Loss, LossInputs, register_loss
from bnnapps.losses.hub import extra_of
from bnnapps.plugins.graphs.xor import gathered
from bnnapps.validation import Record

STRUCTURES = "structures"
RECONSTRUCTION = "reconstruction"
Kernel = Literal["l2", "hamming", "hamming_squared"]


class StructureOptions(Record):
    """Options of the loss `local_structure`."""

    student: Kernel = "l2"
    """Similarity of the student's points: exp(-|z_i - z_j|^2), exp(-h) or exp(-h^2), h the relaxed Hamming distance."""
    teacher: Kernel = "l2"


def similarity(x: Tensor, index: Tensor, kernel: Kernel) -> Tensor:
    """How like each point and its neighbours are, in (0, 1]: (B, N, C) and (B, N, k) to (B, N, k).

    exp(-d) with d = |z_i - z_j|^2 (`l2`), h (`hamming`) or h^2 (`hamming_squared`); h = sum of (1 - z_i z_j) / 2 is the
    Hamming distance of -1 and +1, relaxed.
    """
    others, own = gathered(x, index), x[:, :, None]
    if kernel == "l2":
        return torch.exp(-(others - own).square().sum(-1))
    apart = ((1 - others * own) / 2).sum(-1)
    return torch.exp(-(apart if kernel == "hamming" else apart.square()))


def united(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The neighbours in either list (B, N, k + k'), and whether each counts: one that is in both counts once."""
    again = (b[..., None] == a[..., None, :]).any(-1)
    return torch.cat([a, b], dim=-1), torch.cat([torch.ones_like(a, dtype=torch.bool), ~again], dim=-1)


def local_structure(
    student: Tensor, student_index: Tensor, teacher: Tensor, teacher_index: Tensor, options: StructureOptions
) -> Tensor:
    """Divergence of the structure around each point, mean over the points.

    Over the neighbours j of point i in either network, LS_ij = softmax_j(similarity_ij); the loss is
    mean_i KL(LS^teacher_i || LS^student_i) (Yang et al., CVPR 2020; kernels of Bahri et al., CVPR 2021).
    """
    index, counts = united(student_index, teacher_index)
    ours = _log_shares(similarity(student, index, options.student), counts)
    theirs = _log_shares(similarity(teacher, index, options.teacher), counts)
    terms = theirs.exp() * (theirs - ours)
    return terms.masked_fill(~counts, 0).sum(-1).mean()


def _log_shares(similarities: Tensor, counts: Tensor) -> Tensor:
    return similarities.masked_fill(~counts, float("-inf")).log_softmax(dim=-1).masked_fill(~counts, 0)


def local_structure_loss(inputs: LossInputs, options: StructureOptions) -> Tensor:
    """`local_structure`, mean over the layers that find neighbours among features."""
    ours: Any = extra_of(inputs.student, "student", "local_structure", STRUCTURES)
    theirs: Any = extra_of(inputs.of_teacher("local_structure"), "teacher", "local_structure", STRUCTURES)
    if not ours or len(ours) != len(theirs):
        raise UsageError(
            f"the loss 'local_structure' compares layer by layer, but the student has {len(ours)} layers with "
            f"neighbours among features, and the teacher {len(theirs)}"
        )
    terms = [
        local_structure(s.features, s.index, t.features, t.index, options) for s, t in zip(ours, theirs, strict=True)
    ]
    return torch.stack(terms).mean()


def reconstruction_loss(inputs: LossInputs) -> Tensor:
    """What the auto-encoders of all layers lose, summed."""
    found: Any = extra_of(inputs.student, "student", "reconstruction", RECONSTRUCTION)
    return torch.stack(list(found)).sum()


LOSSES = [
    Loss(
        "local_structure",
        local_structure_loss,
        "divergence of the similarities of neighbouring points (binary DGCNN)",
        needs_teacher=True,
        options=StructureOptions,
        extras=(STRUCTURES,),
    ),
    Loss(
        "reconstruction",
        reconstruction_loss,
        "squared error of the auto-encoders that choose aggregators (Meta-Aggregator)",
        extras=(RECONSTRUCTION,),
    ),
]
for _loss in LOSSES:
    register_loss(_loss)

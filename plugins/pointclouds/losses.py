"""The regulariser of PointNet's feature transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from bnnapps.losses import Loss, LossInputs, register_loss
from bnnapps.losses.hub import tapped
from bnnapps.validation import Record

TRANSFORMS = "transforms"
"""The tap of the feature transforms of a network, (B, k, k) each."""


class OrthogonalOptions(Record):
    """Options of `orthogonal_transform`."""

    form: Literal["paper", "released"] = "paper"
    """`paper`: I - T T^T (PointNet); `released`: T (T^T - I), which the code of BiPointNet computes."""


def orthogonality(matrices: Sequence[Tensor], form: str = "paper") -> Tensor:
    """Sum over the networks' transforms of the mean over the batch of ||I - T T^T||_F (PointNet, Qi et al., 2017).

    Args:
        matrices: T, (B, k, k) each.
        form: see `OrthogonalOptions`.

    """
    total = []
    for matrix in matrices:
        unit = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)
        product = matrix @ matrix.mT
        rest = product - (unit if form == "paper" else matrix)
        # The square root has no gradient at 0, where the transform is the identity, as it may be at the start.
        total.append(rest.square().sum(dim=(1, 2)).clamp(min=torch.finfo(matrix.dtype).tiny).sqrt().mean())
    return torch.stack(total).sum()


def orthogonal_transform_loss(inputs: LossInputs, options: OrthogonalOptions) -> Tensor:
    """`orthogonality` of the student's feature transforms."""
    matrices = tapped(inputs.student, "student", "orthogonal_transform", TRANSFORMS)
    return orthogonality(matrices, options.form)


register_loss(
    Loss(
        "orthogonal_transform",
        orthogonal_transform_loss,
        "how far feature transforms are from orthogonal matrices (PointNet)",
        taps=(TRANSFORMS,),
        options=OrthogonalOptions,
    )
)

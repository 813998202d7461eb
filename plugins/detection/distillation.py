"""What a binary detector learns from a float one: features near objects, and regions that both see differently."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from bnnapps.errors import UsageError
from bnnapps.losses import Loss, LossInputs, register_loss
from bnnapps.losses.hub import extra_of
from bnnapps.losses.imitation import (
    check_maps,
    entropy_distillation,
    grid_anchors,
    imitation_mask,
    information_discrepancy,
    masked_imitation,
    most_discrepant,
)
from bnnapps.plugins.detection.maps import Maps
from bnnapps.plugins.detection.recorder import MAPS
from bnnapps.validation import Record


class ImitationOptions(Record):
    """Options of `feature_imitation`: which places of the maps count."""

    share: float = Field(default=0.5, gt=0, lt=1)
    """psi: a place counts with more than this share of the best overlap of an object (0.5 as published)."""
    sizes: list[float] = Field(default=[8.0, 16.0, 32.0], min_length=1)
    """Anchors, in steps of the map: 8, 16 and 32 of 16 pixels are those of Faster R-CNN."""
    ratios: list[float] = Field(default=[0.5, 1.0, 2.0], min_length=1)
    """Of the anchors, height over width."""


class DiscrepancyOptions(Record):
    """Options of `proposal_discrepancy`."""

    share: float = Field(default=0.6, gt=0, le=1)
    """gamma: the share of the pairs that is distilled, those with the greatest discrepancy."""
    most: int = Field(default=64, ge=1)
    """So many proposals of an image from either network become pairs, the surest of the teacher."""
    size: int = Field(default=7, ge=2)
    """Places a side that the features of a region are brought to."""


def imitation_masks(maps: Maps, options: ImitationOptions) -> list[Tensor]:
    """(N, H, W) for each level: the places near objects; an object counts where it fits best over all levels."""
    levels = [
        grid_anchors((m.shape[2], m.shape[3]), maps.batch, options.sizes, options.ratios).to(m.device)
        for m in maps.levels
    ]
    counts = [len(a) for a in levels]
    anchors = torch.cat(levels)
    rows = torch.stack([imitation_mask(anchors, objects, options.share) for objects in maps.objects])
    parts = rows.split(counts, dim=1)
    return [part.view(len(m), *m.shape[2:]) for part, m in zip(parts, maps.levels, strict=True)]


def feature_imitation_loss(inputs: LossInputs, options: ImitationOptions) -> Tensor:
    """`masked_imitation` of the maps of student and teacher near the objects (FGFI; the limitation loss of LWS-Det)."""
    own, other = _both(inputs, "feature_imitation")
    return masked_imitation(own.levels, other.levels, imitation_masks(own, options))


def proposal_discrepancy_loss(inputs: LossInputs, options: DiscrepancyOptions) -> Tensor:
    """The distillation of IDa-Det (2022): proposals of both networks are paired by their place.

    Inner step: the pairs with the greatest `information_discrepancy` are chosen. Outer step: `entropy_distillation` of
    the chosen ones. Proposals and choice take no gradient.

    """
    own, other = _both(inputs, "proposal_discrepancy")
    if own.regions is None or other.regions is None:
        raise UsageError(
            "the loss 'proposal_discrepancy' pairs region proposals, and this detector has none: take one of two "
            "stages, or 'feature_imitation'"
        )
    regions = [
        torch.cat([s.detach()[: options.most], t.detach()[: options.most]])
        for s, t in zip(own.regions, other.regions, strict=True)
    ]
    student, teacher = own.aligned(regions, options.size), other.aligned(regions, options.size).detach()
    chosen = most_discrepant(information_discrepancy(student, teacher), options.share)
    return entropy_distillation(student[chosen], teacher[chosen])


def _both(inputs: LossInputs, term: str) -> tuple[Maps, Maps]:
    own: Maps = extra_of(inputs.student, "student", term, MAPS)
    other: Maps = extra_of(inputs.of_teacher(term), "teacher", term, MAPS)
    check_maps(own.levels, other.levels)
    return own, other


for _loss in (
    Loss(
        "feature_imitation",
        feature_imitation_loss,
        "squared difference of feature maps near objects (FGFI, in LWS-Det)",
        needs_teacher=True,
        options=ImitationOptions,
        extras=(MAPS,),
    ),
    Loss(
        "proposal_discrepancy",
        proposal_discrepancy_loss,
        "conditional entropy of the proposals that student and teacher see most differently (IDa-Det)",
        needs_teacher=True,
        options=DiscrepancyOptions,
        extras=(MAPS,),
    ),
):
    register_loss(_loss)

"""Distillation of detectors: features near objects, and regions that student and teacher see differently.

FGFI: Distilling Object Detectors with Fine-grained Feature Imitation, Wang et al., CVPR 2019.
IDa-Det: An Information Discrepancy-Aware Distillation for 1-bit Detectors, Xu et al., ECCV 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bnnapps.errors import UsageError

_EPSILON = 1e-6


def box_overlaps(left: Tensor, right: Tensor) -> Tensor:
    """Intersection over union of boxes (n, 4) and (m, 4), x1 y1 x2 y2: (n, m). Boxes without area overlap nothing."""
    low = torch.maximum(left[:, None, :2], right[None, :, :2])
    high = torch.minimum(left[:, None, 2:], right[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    areas = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1) for b in (left, right)]
    union = areas[0][:, None] + areas[1][None] - shared
    return shared / union.clamp(min=_EPSILON)


def grid_anchors(
    places: tuple[int, int], image: tuple[int, int], sizes: Sequence[float], ratios: Sequence[float]
) -> Tensor:
    """Boxes around every place of a map, (H W, A, 4) in pixels, A = sizes x ratios.

    Args:
        places: height and width of the map.
        image: height and width of the image that it is of.
        sizes: root of a box's area, in steps of the map.
        ratios: height over width.

    """
    steps = [image[i] / places[i] for i in (0, 1)]
    y = (torch.arange(places[0]) + 0.5) * steps[0]
    x = (torch.arange(places[1]) + 0.5) * steps[1]
    centres = torch.stack([x.repeat(places[0]), y.repeat_interleave(places[1])], dim=1)
    half = []
    for size in sizes:
        for ratio in ratios:
            half.append([size * steps[1] / math.sqrt(ratio) / 2, size * steps[0] * math.sqrt(ratio) / 2])
    reach = torch.tensor(half)
    return torch.cat([centres[:, None] - reach, centres[:, None] + reach], dim=2)


def imitation_mask(anchors: Tensor, objects: Tensor, share: float = 0.5) -> Tensor:
    """(P,): places of a map some anchor of which overlaps an object nearly as well as the best one of the map.

    For each object, M is the largest IoU of all anchors with it; a place counts where one of its anchors has more than
    share * M (FGFI, section 3.1). No objects, or none that any anchor meets: no places.

    Args:
        anchors: (P, A, 4).
        objects: (g, 4).
        share: psi, 0.5 in the paper.

    """
    if len(objects) == 0:
        return torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    overlaps = box_overlaps(anchors.reshape(-1, 4), objects).view(len(anchors), -1, len(objects))
    best = overlaps.amax(dim=(0, 1))
    return ((overlaps > share * best) & (overlaps > 0)).flatten(1).any(dim=1)


def masked_imitation(student: Sequence[Tensor], teacher: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """1 / (2 N_p) of the squared differences at the places of the masks, N_p their number over all maps (FGFI).

    Args:
        student: maps, (N, C, H, W) each.
        teacher: maps of the same shapes; no gradient.
        masks: (N, H, W) each.

    Without any place the loss is 0, still with a (zero) gradient.

    """
    check_maps(student, teacher)
    parts = []
    for own, other, mask in zip(student, teacher, masks, strict=True):
        parts.append(((own - other.detach()).square().sum(dim=1) * mask).sum())
    places = sum(int(mask.sum()) for mask in masks)
    return torch.stack(parts).sum() / (2 * max(1, places))


def check_maps(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
    """Raise `UsageError` where the maps of student and teacher are not of the same shapes."""
    shapes = [[tuple(m.shape) for m in maps] for maps in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"feature maps of the student have the shapes {shapes[0]} and those of the teacher {shapes[1]}: "
            "take a teacher of the same architecture and image size"
        )


def _positions(regions: Tensor) -> Tensor:
    return regions.flatten(2)


def pooled_variance(student: Tensor, teacher: Tensor) -> Tensor:
    """(n, C): half the sum of the variances of a channel over the places of a region, in both networks; no gradient.

    Args:
        student: regions, (n, C, h, w).
        teacher: the same regions in the teacher.

    """
    with torch.no_grad():
        return (_positions(student).var(dim=2, correction=0) + _positions(teacher).var(dim=2, correction=0)) / 2


def information_discrepancy(student: Tensor, teacher: Tensor) -> Tensor:
    """(n,): sum over channels of |t - s| / sigma, a Mahalanobis distance of a region in both networks (IDa-Det).

    Each channel is taken as Gaussian over the places of the region, with the variance sigma^2 of `pooled_variance`;
    |t - s| is the root of the mean square over the places. No gradient.

    """
    with torch.no_grad():
        apart = (_positions(teacher) - _positions(student)).square().mean(dim=2)
        return (apart / (pooled_variance(student, teacher) + _EPSILON)).sqrt().sum(dim=1)


def most_discrepant(discrepancies: Tensor, share: float) -> Tensor:
    """Indices of the ceil(share * n) regions with the largest discrepancy, the inner step of IDa-Det.

    Equal ones are taken in order.
    """
    count = math.ceil(share * len(discrepancies))
    return torch.sort(discrepancies, descending=True, stable=True).indices[:count]


def entropy_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over regions and channels of 1/2 (mean((t - s)^2) / v + log(v / v_t)), the outer step of IDa-Det.

    Up to constants that is -log p(s | t), the conditional entropy of a region's channel in the student, where p is
    Gaussian around the teacher's channel with the variance v of `pooled_variance`; v_t is the teacher's alone, which
    makes the value 0 where both agree. The paper's normaliser is not public to the last term; here v takes no gradient,
    which is (s - t) / v, divided by the numbers of places, channels and regions.

    Args:
        student: regions, (n, C, h, w); none (n = 0) gives 0.
        teacher: the same regions; no gradient.

    """
    if len(student) == 0:
        return student.sum()
    other = teacher.detach()
    variance = pooled_variance(student, other) + _EPSILON
    of_teacher = pooled_variance(other, other) + _EPSILON
    apart = (_positions(student) - _positions(other)).square().mean(dim=2)
    return (apart / variance + (variance / of_teacher).log()).mean() / 2

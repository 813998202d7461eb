"""torchvision's Faster R-CNN as a graph: images in, a fixed number of detections out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bnnapps.export.detectors.detections import Detections
from bnnapps.export.detectors.images import Preparation, large_enough
from bnnapps.export.detectors.single_stage import anchors_of, decoded, features_of
from bnnapps.export.detectors.suppression import Suppression, best

_SMALLEST = 1e-2
"""Detections with a smaller side, in pixels, are left out, as torchvision does."""


class FasterRCNNForm:
    """Mixed into a Faster R-CNN: `forward` takes a batch of images of one size.

    The proposals of an image keep the order of the anchors, and not of their scores: a difference in rounding then
    moves none of them to another place. Empty places, of which there are as many as proposals are missing, score 0.
    """

    def prepare(self: Any, height: int, width: int) -> None:
        """Fix the size of the images."""
        self.preparation = Preparation(self.transform, height, width)
        x = self.preparation(torch.zeros(1, 3, height, width))
        features = features_of(self, x)
        maps, rpn, roi = list(features.values()), self.rpn, self.roi_heads
        self.register_buffer("anchors", anchors_of(rpn.anchor_generator, x, maps), persistent=False)
        per_place = rpn.anchor_generator.num_anchors_per_location()
        self.levels = [int(f.shape[-2] * f.shape[-1]) * n for f, n in zip(maps, per_place, strict=True)]
        most = rpn.post_nms_top_n()
        self.proposals = Suppression("proposals", rpn.nms_thresh, 0.0, most)
        self.detections = Detections("detections", roi.nms_thresh, roi.score_thresh, roi.detections_per_img)
        pool = roi.box_roi_pool
        pool.scales = pool.map_levels = None  # of the size that it saw before
        pool(features, [x.new_tensor([[0.0, 0.0, 1.0, 1.0]])], [self.preparation.size])

    def forward(self: Any, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in [0, 1] to the detections."""
        features = features_of(self, self.preparation(images))
        boxes, real = self._proposed(list(features.values()))
        batch, count = boxes.shape[0], boxes.shape[1]
        roi = self.roi_heads
        pool = roi.box_roi_pool
        maps = [x for name, x in features.items() if name in pool.featmap_names]
        size, scales, sampling = tuple(pool.output_size), pool.scales, pool.sampling_ratio
        pooled = pooled_maps(maps, boxes, size, scales, sampling, lambda found: pool.map_levels([found]))
        logits, codes = roi.box_predictor(roi.box_head(pooled))
        classes = logits.shape[-1]
        found = roi.box_coder.decode_single(codes, boxes.reshape(-1, 4)).view(batch, count, -1, 4)
        found = self.preparation.clipped(found.expand(-1, -1, classes, -1))[:, :, 1:].transpose(1, 2)
        scores = torch.softmax(logits, -1).view(batch, count, classes)[..., 1:].transpose(1, 2)
        scores = torch.where(real[:, None] & large_enough(found, _SMALLEST), scores, 0.0)
        result: dict[str, Tensor] = self.detections(self.preparation.back(found), scores)
        return result

    def _proposed(self: Any, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Proposals (B, P, 4), and whether a place holds one (B, P)."""
        from torchvision.models.detection.rpn import concat_box_prediction_layers

        rpn = self.rpn
        objectness, deltas = rpn.head(maps)
        batch = objectness[0].shape[0]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        boxes = self.preparation.clipped(decoded(rpn.box_coder, deltas.view(batch, -1, 4), self.anchors))
        scores = torch.sigmoid(objectness.view(batch, -1))
        valid = large_enough(boxes, rpn.min_size) & (scores >= rpn.score_thresh)
        return proposed(self.proposals, boxes, scores, valid, self.levels, rpn.pre_nms_top_n(), rpn.post_nms_top_n())


def proposed(
    choice: Suppression, boxes: Tensor, scores: Tensor, valid: Tensor, levels: list[int], before: int, after: int
) -> tuple[Tensor, Tensor]:
    """The proposals of each image: the best of each level, suppression within the level, the best of those.

    Args:
        choice: the suppression.
        boxes: (B, A, 4), level by level.
        scores: (B, A), positive.
        valid: (B, A), whether a box may be a proposal once it is among the best of its level.
        levels: the number of boxes of each level.
        before: how many of a level are looked at.
        after: how many are proposed at most.

    Returns:
        Boxes (B, P, 4) in the order of the anchors, and whether a place holds one (B, P).

    """
    places = [
        in_order(best(level, before)) + start
        for level, start in zip(scores.split(levels, dim=1), _starts(levels), strict=True)
    ]
    sizes = [place.shape[1] for place in places]
    taken = torch.cat(places, 1)
    boxes = _taken(boxes, taken)
    scores = torch.where(torch.gather(valid, 1, taken), torch.gather(scores, 1, taken), 0.0)
    zeros = [torch.zeros_like(part) for part in scores.split(sizes, dim=1)]
    rows = [torch.cat([*zeros[:i], part, *zeros[i + 1 :]], 1) for i, part in enumerate(scores.split(sizes, dim=1))]
    kept = choice(boxes, torch.stack(rows, 1)).amax(1)
    chosen = in_order(best(kept, after))
    return _taken(boxes, chosen), torch.gather(kept, 1, chosen) > 0


def pooled_maps(
    maps: list[Tensor],
    boxes: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    sampling: int,
    level_of: Callable[[Tensor], Tensor],
    aligned: bool = False,
) -> Tensor:
    """RoIAlign of boxes (B, P, 4), each on the map that its size asks for: (B * P, C, h, w).

    Every box is pooled from every map, and one of the results taken: the sizes stay fixed.

    Args:
        maps: (B, C, H, W), finest first.
        boxes: in pixels of the image.
        size: h and w.
        scales: pixels of each map for a pixel of the image.
        sampling: points a bin and direction; 0 or less: as many as the size of the bin asks for.
        level_of: boxes (B * P, 4) to the places of their maps (B * P,); not asked where there is one map.
        aligned: whether the corners lie half a pixel further up and left (Detectron2, mmcv).

    """
    from torchvision.ops import roi_align

    batch, count = boxes.shape[0], boxes.shape[1]
    number = torch.arange(batch, device=boxes.device)[:, None].expand(-1, count).reshape(-1, 1).to(boxes.dtype)
    rois = torch.cat([number, boxes.reshape(-1, 4)], 1)
    found: list[Tensor] = [
        roi_align(x, rois, size, scale, sampling, aligned) for x, scale in zip(maps, scales, strict=True)
    ]
    if len(found) == 1:
        return found[0]
    level = level_of(boxes.reshape(-1, 4))[:, None, None, None]
    result = found[0]
    for number_of, one in enumerate(found[1:], start=1):
        result = torch.where(level == number_of, one, result)
    return result


def in_order(places: Tensor) -> Tensor:
    """Places (B, P), all different, in rising order."""
    return torch.sort(places, dim=1).values


def _starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _taken(boxes: Tensor, places: Tensor) -> Tensor:
    """Boxes (B, N, 4) at places (B, M): (B, M, 4)."""
    return torch.gather(boxes, 1, places[..., None].expand(-1, -1, 4))

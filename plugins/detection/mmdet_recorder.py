"""What losses read of mmdet's detectors beyond their own losses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.plugins.detection.maps import Maps
from bnnapps.plugins.detection.recorder import (
    CANDIDATES,
    FEATURES,
    MAPS,
    PROPOSALS,
    RPN_FEATURES,
    Candidates,
    Recorder,
)


class _OfMMDet(Recorder):
    """What both kinds share: the images and their objects, and the boxes of heads that move anchors."""

    @property
    def network(self) -> Any:
        return self.detector.detector

    def _samples(self) -> list[Any]:
        found: list[Any] = self.seen["data"][0]["data_samples"]
        return found

    def _candidates(self, boxes: Sequence[Tensor], scores: Sequence[Tensor], one_class: bool) -> list[Candidates]:
        found = []
        for sample, own, rated in zip(self._samples(), boxes, scores, strict=True):
            objects = sample.gt_instances if "gt_instances" in sample else None
            truth = own.new_zeros(0, 4) if objects is None else objects.bboxes
            labels = truth.new_zeros(0).long() if objects is None else objects.labels + 1
            height, width = sample.img_shape
            clipped = torch.stack([own[..., 0::2].clamp(0, width), own[..., 1::2].clamp(0, height)], dim=-1).flatten(-2)
            found.append(Candidates(clipped, rated, torch.ones_like(labels) if one_class else labels, truth))
        return found

    def _level_maps(self, regions: list[Tensor] | None = None) -> Maps:
        data, samples = self.seen["data"][0], self._samples()
        nothing = data["inputs"].new_zeros(0, 4)
        objects = [s.gt_instances.bboxes if "gt_instances" in s else nothing for s in samples]
        sizes = [tuple(s.img_shape) for s in samples]
        height, width = data["inputs"].shape[-2:]
        return Maps(list(self.seen["maps"][0]), (height, width), sizes, objects, regions)

    def _dense(self, head: Any, output: Any, one_class: bool) -> list[Candidates]:
        """Every anchor of a head, moved by what the head says."""
        logits, offsets = output[0], output[1]
        count = len(logits[0])
        sizes = [level.shape[-2:] for level in logits]
        anchors = torch.cat(list(head.prior_generator.grid_priors(sizes, device=logits[0].device)))
        rows = torch.cat([_rows(level, head.cls_out_channels) for level in logits], dim=1)
        # mmdet has the background last, where scores are a softmax.
        scores = rows.sigmoid() if head.use_sigmoid_cls else rows.softmax(dim=-1)[..., :-1]
        moves = torch.cat([_rows(level, 4) for level in offsets], dim=1).detach()
        boxes = [head.bbox_coder.decode(anchors, moves[i]) for i in range(count)]
        return self._candidates(boxes, list(scores), one_class)


class DenseMMDetRecorder(_OfMMDet):
    """Of detectors of one stage whose head moves anchors: SSD, RetinaNet, ATSS and their kin."""

    has = (FEATURES, CANDIDATES, MAPS)

    def modules(self) -> dict[str, nn.Module]:
        """The data preprocessor, what makes the maps, and the head."""
        network = self.network
        return {"data": network.data_preprocessor, "maps": _of_maps(network), "head": network.bbox_head}

    def extra(self, name: str) -> Any:
        """Features are the maps that the head reads; candidates all anchors, moved."""
        if name == MAPS:
            return self._level_maps()
        if name == FEATURES:
            return _by_image(self.seen["maps"][0])
        return self._dense(self.network.bbox_head, self.seen["head"][0], one_class=False)


class TwoStageMMDetRecorder(_OfMMDet):
    """Of detectors with region proposals and one head for the regions: Faster R-CNN, Mask R-CNN and their kin."""

    has = (FEATURES, CANDIDATES, RPN_FEATURES, PROPOSALS, MAPS)

    def modules(self) -> dict[str, nn.Module]:
        """The data preprocessor, the region proposals, and what follows from the regions."""
        network = self.network
        head = network.roi_head.bbox_head
        return {
            "data": network.data_preprocessor,
            "maps": _of_maps(network),
            "rpn": network.rpn_head,
            "rpn_conv": network.rpn_head.rpn_conv,
            "regions:input": network.roi_head.bbox_roi_extractor,
            "vectors:input": head.fc_cls,
            "head": head,
        }

    def extra(self, name: str) -> Any:
        """Features are the vectors of the regions that the last layers read."""
        if name == PROPOSALS:
            return self._dense(self.network.rpn_head, self.seen["rpn"][0], one_class=True)
        if name == RPN_FEATURES:
            return _by_image(self.seen["rpn_conv"])
        regions: Tensor = self.seen["regions:input"][0][1]
        images = range(len(self._samples()))
        of_image = [(regions[:, 0] == i).nonzero().flatten() for i in images]
        if name == MAPS:
            return self._level_maps([regions[c, 1:] for c in of_image])
        if name == FEATURES:
            vectors: Tensor = self.seen["vectors:input"][0][0]
            return [[vectors[chosen]] for chosen in of_image]
        head = self.network.roi_head.bbox_head
        logits, moves = self.seen["head"][0]
        own = 1 if head.reg_class_agnostic else head.num_classes
        boxes = head.bbox_coder.decode(regions[:, 1:].repeat_interleave(own, dim=0), moves.detach().reshape(-1, 4))
        boxes = boxes.view(len(regions), own, 4)
        boxes = boxes[:, 0] if own == 1 and head.num_classes > 1 else boxes
        scores = logits.softmax(dim=-1)[:, :-1]
        return self._candidates([boxes[c] for c in of_image], [scores[c] for c in of_image], one_class=False)


def recorder_of_mmdet(detector: Any, wanted: Iterable[str]) -> Recorder:
    """The recorder for a wrapped detector of mmdet.

    Raises:
        UsageError: extras are wanted of a detector that has neither anchors nor one head for its regions.

    """
    names, network = tuple(wanted), detector.detector
    roi_head = getattr(network, "roi_head", None)
    if roi_head is not None:
        if hasattr(getattr(roi_head, "bbox_head", None), "fc_cls") and hasattr(network.rpn_head, "rpn_conv"):
            return TwoStageMMDetRecorder(detector, names)
    elif _moves_anchors(getattr(network, "bbox_head", None)):
        return DenseMMDetRecorder(detector, names)
    if names:
        raise UsageError(
            f"losses: '{names[0]}' is not known of mmdet's {type(network).__name__}: drop the losses that read it, or "
            "take a detector with anchors, or of two stages with one head"
        )
    return Recorder(detector, ())


def _of_maps(network: Any) -> nn.Module:
    """The module that puts out the maps that heads read."""
    found: nn.Module = network.neck if network.with_neck else network.backbone
    return found


def _moves_anchors(head: Any) -> bool:
    return any(kind.__name__ == "AnchorHead" for kind in type(head).__mro__)


def _rows(level: Tensor, columns: int) -> Tensor:
    """(N, A * columns, H, W) to (N, H W A, columns), the order of mmdet's anchors."""
    return level.permute(0, 2, 3, 1).reshape(len(level), -1, columns)


def _by_image(maps: Sequence[Tensor]) -> list[list[Tensor]]:
    return [[m[i] for m in maps] for i in range(len(maps[0]))]

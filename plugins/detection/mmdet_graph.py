"""mmdet's detectors as graphs, for export: a batch of images of one size in, a fixed number of detections out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnnapps.errors import ExportError
from bnnapps.export.detectors.detections import Detections
from bnnapps.export.detectors.suppression import Suppression, highest
from bnnapps.export.detectors.two_stage import pooled_maps, proposed


class Prepared(nn.Module):
    """What a data preprocessor of mmdet does to RGB images in [0, 1] of one size: order of channels, norm, padding."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessor: Any, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.rgb = bool(preprocessor._channel_conversion)
        every, self.fill = preprocessor.pad_size_divisor, float(preprocessor.pad_value)
        self.padding = (0, -width % every, 0, -height % every)
        normalized = preprocessor._enable_normalize
        for name, value in (("mean", 0.0), ("std", 1.0)):
            own = getattr(preprocessor, name).detach().clone() if normalized else torch.tensor(value)
            self.register_buffer(name, own, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to what the backbone takes."""
        x = images if self.rgb else images.flip(1)
        x = (x * 255 - self.mean) / self.std
        return F.pad(x, self.padding, value=self.fill) if any(self.padding) else x

    def clipped(self, boxes: Tensor, coder: Any) -> Tensor:
        """Boxes (..., 4) with every corner inside the image, where the coder clips."""
        if not getattr(coder, "clip_border", True):
            return boxes
        x1, y1, x2, y2 = boxes.unbind(-1)
        w, h = self.width, self.height
        return torch.stack((x1.clamp(0, w), y1.clamp(0, h), x2.clamp(0, w), y2.clamp(0, h)), -1)


def rows(level: Tensor, columns: int) -> Tensor:
    """(B, A * columns, H, W) to (B, H W A, columns), the order of mmdet's anchors."""
    found: Tensor = level.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, columns))
    return found


@torch.no_grad()
def priors_of(head: Any, maps: list[Tensor]) -> tuple[Tensor, list[int]]:
    """Anchors or points of one image, level by level, and how many there are on each level."""
    found = head.prior_generator.grid_priors([m.shape[-2:] for m in maps], dtype=maps[0].dtype, device=maps[0].device)
    return torch.cat(list(found)), [len(level) for level in found]


def decoded(coder: Any, moves: Tensor, priors: Tensor) -> Tensor:
    """Boxes (B, N, 4) from what a head predicts for priors (N, ...), not clipped."""
    batch = moves.shape[0]
    flat = priors.expand(batch, *priors.shape).flatten(0, 1)
    boxes: Tensor = coder.decode(flat, moves.reshape(-1, moves.shape[-1]))
    return boxes.view(batch, -1, 4)


def large(boxes: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Whether boxes (..., 4) are as wide and high as the test settings want: (...)."""
    smallest = config.get("min_bbox_size", -1)
    x1, y1, x2, y2 = boxes.unbind(-1)
    if smallest < 0:
        return torch.ones_like(x1, dtype=torch.bool)
    found: Tensor = (x2 - x1 > smallest) & (y2 - y1 > smallest)
    return found


def overlap_of(config: Mapping[str, Any], whose: str) -> float:
    """The largest overlap of two boxes that a greedy suppression keeps.

    Raises:
        ExportError: another suppression.

    """
    nms = dict(config.get("nms") or {})
    if nms.get("type") != "nms" or nms.get("class_agnostic", False) or "iou_threshold" not in nms:
        raise ExportError(
            f"the {whose} of this detector suppresses boxes by {nms or 'nothing'}; a file holds greedy suppression "
            "within a class: set test_cfg.nms to {type: nms, iou_threshold: 0.5} in model.options"
        )
    return float(nms["iou_threshold"])


class DenseForm:
    """Mixed into the wrapper of a detector of one stage, with anchors or points."""

    def prepare(self: Any, height: int, width: int) -> None:
        """Fix the size of the images."""
        network = self.network
        head, config = network.bbox_head, network.bbox_head.test_cfg
        self.preparation = Prepared(network.data_preprocessor, height, width)
        maps = head(network.extract_feat(self.preparation(torch.zeros(1, 3, height, width))))[0]
        priors, self.levels = priors_of(head, maps)
        self.register_buffer("priors", priors, persistent=False)
        self.detections = Detections("detections", overlap_of(config, "head"), 0.0, config["max_per_img"])

    def forward(self: Any, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in [0, 1] to the detections."""
        head, config = self.network.bbox_head, self.network.bbox_head.test_cfg
        logits, moves, *factors = head(self.network.extract_feat(self.preparation(images)))
        scores = probabilities(head, torch.cat([rows(level, head.cls_out_channels) for level in logits], 1))
        scores = torch.where(scores > config.get("score_thr", 0), scores, 0.0).transpose(1, 2)
        before = config.get("nms_pre", -1)
        if before > 0:
            parts = scores.split(self.levels, dim=-1)
            scores = torch.cat([highest(part.flatten(1), before).view_as(part) for part in parts], -1)
        if factors:
            scores = scores * torch.cat([rows(level, 1) for level in factors[0]], 1).sigmoid().transpose(1, 2)
        offsets = torch.cat([rows(level, 4) for level in moves], 1)
        boxes = self.preparation.clipped(decoded(head.bbox_coder, offsets, self.priors), head.bbox_coder)
        scores = torch.where(large(boxes, config)[:, None], scores, 0.0)
        result: dict[str, Tensor] = self.detections(boxes[:, None], scores)
        return result


class TwoStageForm:
    """Mixed into the wrapper of a detector with region proposals and one head for the regions.

    Proposals keep the order of the anchors, and empty places score 0, as in the form of torchvision's Faster R-CNN.
    """

    def prepare(self: Any, height: int, width: int) -> None:
        """Fix the size of the images."""
        network = self.network
        rpn, roi = network.rpn_head, network.roi_head
        self.preparation = Prepared(network.data_preprocessor, height, width)
        maps = rpn(network.extract_feat(self.preparation(torch.zeros(1, 3, height, width))))[0]
        priors, self.levels = priors_of(rpn, maps)
        self.register_buffer("priors", priors, persistent=False)
        most, config = rpn.test_cfg["max_per_img"], roi.test_cfg
        self.proposals = Suppression("proposals", overlap_of(rpn.test_cfg, "region proposal head"), 0.0, most)
        overlap = overlap_of(config, "region head")
        self.detections = Detections("detections", overlap, config["score_thr"], config["max_per_img"])

    def forward(self: Any, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in [0, 1] to the detections."""
        maps = self.network.extract_feat(self.preparation(images))
        boxes, real = self._proposed(maps)
        roi, head = self.network.roi_head, self.network.roi_head.bbox_head
        vectors = pooled(roi.bbox_roi_extractor, maps, boxes)
        logits, moves = head(roi.shared_head(vectors) if roi.with_shared_head else vectors)
        batch, count = real.shape
        own = 1 if head.reg_class_agnostic else head.num_classes
        flat = boxes.reshape(-1, 1, 4).expand(-1, own, -1).reshape(-1, 4)
        found = head.bbox_coder.decode(flat, moves.reshape(-1, 4)).view(batch, count, own, 4).transpose(1, 2)
        found = self.preparation.clipped(found, head.bbox_coder)
        scores = torch.softmax(logits, -1)[:, :-1].view(batch, count, -1).transpose(1, 2)
        scores = torch.where(real[:, None], scores, 0.0)
        result: dict[str, Tensor] = self.detections(found, scores)
        return result

    def _proposed(self: Any, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Proposals (B, P, 4), and whether a place holds one (B, P)."""
        rpn = self.network.rpn_head
        logits, moves = rpn(maps)
        scores = probabilities(rpn, torch.cat([rows(level, rpn.cls_out_channels) for level in logits], 1))[..., 0]
        offsets = torch.cat([rows(level, 4) for level in moves], 1)
        boxes = self.preparation.clipped(decoded(rpn.bbox_coder, offsets, self.priors), rpn.bbox_coder)
        before, after = rpn.test_cfg.get("nms_pre", -1), rpn.test_cfg["max_per_img"]
        before = before if before > 0 else boxes.shape[1]
        return proposed(self.proposals, boxes, scores, large(boxes, rpn.test_cfg), self.levels, before, after)


def probabilities(head: Any, logits: Tensor) -> Tensor:
    """Scores (B, N, C) of the classes; mmdet has the background last, where scores are a softmax."""
    return logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)[..., :-1]


def pooled(extractor: Any, maps: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """Vectors of the regions, as `SingleRoIExtractor` takes them from the map that fits the size of a box."""
    layers = list(extractor.roi_layers)
    first, used = layers[0], list(maps[: extractor.num_inputs])

    def level_of(flat: Tensor) -> Tensor:
        levels: Tensor = extractor.map_roi_levels(F.pad(flat, (1, 0)), len(used))
        return levels

    scales = [layer.spatial_scale for layer in layers]
    return pooled_maps(used, boxes, tuple(first.output_size), scales, first.sampling_ratio, level_of, first.aligned)


def graph_form_of(detector: Any) -> type:
    """What is mixed into the wrapper of a detector of mmdet for its export.

    Raises:
        ExportError: a detector that decodes its boxes in a way of its own, or predicts masks.

    """
    network = detector.network
    kind = type(network).__name__
    if getattr(network, "with_mask", False):
        raise ExportError(f"mmdet's {kind} predicts masks, which have no ONNX form here")
    roi = getattr(network, "roi_head", None)
    head = getattr(network, "bbox_head", None) if roi is None else roi
    if head is None or not _is_plain(head, "StandardRoIHead" if roi is not None else "BaseDenseHead"):
        raise ExportError(
            f"mmdet's {kind} with a {type(head).__name__} has no ONNX form: take a detector whose head decodes anchors "
            "or points as RetinaNet, SSD, ATSS and FCOS do, or a Faster R-CNN"
        )
    if roi is None:
        return DenseForm
    if not _is_plain(network.rpn_head, "RPNHead") or not _pools_plainly(roi):
        raise ExportError(f"mmdet's {kind} proposes or pools regions in a way of its own, which has no ONNX form here")
    return TwoStageForm


_DECODING: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "BaseDenseHead": ("mmdet.models.dense_heads.base_dense_head", ("predict_by_feat", "_predict_by_feat_single")),
    "RPNHead": ("mmdet.models.dense_heads.rpn_head", ("_predict_by_feat_single", "_bbox_post_process")),
    "StandardRoIHead": ("mmdet.models.roi_heads.standard_roi_head", ("predict_bbox", "_bbox_forward")),
}
"""Of each base class of heads, its module and the methods whose work a form does."""


def _is_plain(head: Any, base: str) -> bool:
    """Whether a head leaves the decoding to its base class."""
    module, methods = _DECODING[base]
    kind = getattr(importlib.import_module(module), base)
    same: Callable[[str], bool] = lambda name: _owner(type(head), name) is _owner(kind, name)  # noqa: E731
    custom = getattr(getattr(head, "loss_cls", None), "custom_cls_channels", False)
    return isinstance(head, kind) and not custom and all(same(name) for name in methods)


def _owner(kind: type, name: str) -> type | None:
    return next((k for k in kind.__mro__ if name in vars(k)), None)


def _pools_plainly(roi: Any) -> bool:
    extractor, head = roi.bbox_roi_extractor, roi.bbox_head
    bases = importlib.import_module("mmdet.models.roi_heads.bbox_heads.bbox_head")
    return (
        type(extractor).__name__ == "SingleRoIExtractor"
        and all(type(layer).__name__ == "RoIAlign" and layer.pool_mode == "avg" for layer in extractor.roi_layers)
        and _owner(type(head), "_predict_by_feat_single") is bases.BBoxHead
        and not head.custom_cls_channels
        and head.with_reg
    )

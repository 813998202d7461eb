"""torchvision's SSD and RetinaNet as a graph: images in, a fixed number of detections out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnnapps.export.detectors.detections import Detections
from bnnapps.export.detectors.images import Preparation
from bnnapps.export.detectors.suppression import highest


def features_of(detector: Any, images: Tensor) -> dict[str, Tensor]:
    """The feature maps of a detector's backbone by name."""
    found = detector.backbone(images)
    return {"0": found} if isinstance(found, Tensor) else dict(found)


@torch.no_grad()
def anchors_of(generator: Any, images: Tensor, features: list[Tensor]) -> Tensor:
    """Anchor boxes (A, 4) of one image, in pixels of what the network sees; the same for every image of its size."""
    from torchvision.models.detection.image_list import ImageList

    sizes = [(images.shape[-2], images.shape[-1])]
    anchors: Tensor = generator(ImageList(images[:1], sizes), features)[0]
    return anchors


class SSDForm:
    """Mixed into an SSD: `forward` takes a batch of images of one size."""

    def prepare(self: Any, height: int, width: int) -> None:
        """Fix the size of the images."""
        self.preparation = Preparation(self.transform, height, width)
        x = self.preparation(torch.zeros(1, 3, height, width))
        anchors = anchors_of(self.anchor_generator, x, list(features_of(self, x).values()))
        self.register_buffer("anchors", anchors, persistent=False)
        self.detections = Detections("detections", self.nms_thresh, self.score_thresh, self.detections_per_img)

    def forward(self: Any, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in [0, 1] to the detections."""
        features = list(features_of(self, self.preparation(images)).values())
        found = self.head(features)
        boxes = self.preparation.clipped(decoded(self.box_coder, found["bbox_regression"], self.anchors))
        scores = torch.softmax(found["cls_logits"], -1)[..., 1:].transpose(1, 2)
        result: dict[str, Tensor] = self.detections(
            self.preparation.back(boxes)[:, None], highest(scores, self.topk_candidates)
        )
        return result


class RetinaNetForm:
    """Mixed into a RetinaNet: `forward` takes a batch of images of one size."""

    def prepare(self: Any, height: int, width: int) -> None:
        """Fix the size of the images."""
        self.preparation = Preparation(self.transform, height, width)
        x = self.preparation(torch.zeros(1, 3, height, width))
        features = list(features_of(self, x).values())
        self.register_buffer("anchors", anchors_of(self.anchor_generator, x, features), persistent=False)
        per_place = self.anchor_generator.num_anchors_per_location()
        self.levels = [int(f.shape[-2] * f.shape[-1]) * n for f, n in zip(features, per_place, strict=True)]
        limits = self.nms_thresh, self.score_thresh, self.detections_per_img
        self.detections = Detections("detections", *limits, first=0)  # a RetinaNet has no class for the background

    def forward(self: Any, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in [0, 1] to the detections."""
        features = list(features_of(self, self.preparation(images)).values())
        found = self.head(features)
        boxes = self.preparation.clipped(decoded(self.box_coder, found["bbox_regression"], self.anchors))
        scores = torch.sigmoid(found["cls_logits"]).transpose(1, 2)
        levels = [
            highest(level.flatten(1), self.topk_candidates).view_as(level)
            for level in scores.split(self.levels, dim=-1)
        ]
        result: dict[str, Tensor] = self.detections(self.preparation.back(boxes)[:, None], torch.cat(levels, -1))
        return result


def decoded(coder: Any, codes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (B, A, 4) from what a head predicts (B, A, 4) for anchors (A, 4), by torchvision's `BoxCoder`."""
    flat = codes.reshape(-1, 4)
    repeated = anchors.expand(codes.shape[0], -1, -1).reshape(-1, 4)
    boxes: Tensor = coder.decode_single(flat, repeated)
    return boxes.view(codes.shape[0], -1, 4)

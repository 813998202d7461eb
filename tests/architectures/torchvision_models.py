"""Twelve architectures of torchvision: classification, detection, segmentation, video."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models as m
from torchvision.models import detection, segmentation
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.ops import MultiScaleRoIAlign

from architectures import Architecture


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size)


def scenes() -> tuple[list[Tensor]]:
    return ([torch.rand(3, 32, 32), torch.rand(3, 32, 32)],)


def labelled_scenes() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    target = {
        "boxes": torch.tensor([[2.0, 2.0, 20.0, 20.0]]),
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, 32, 32, dtype=torch.uint8),
    }
    return *scenes(), [target, target]


def _backbone() -> Any:
    features = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8))
    )
    features.out_channels = 8  # type: ignore[assignment]
    return features


_ANCHORS: dict[str, Any] = {"sizes": ((8, 16),), "aspect_ratios": ((1.0,),)}
_SCENE: dict[str, Any] = {"num_classes": 3, "min_size": 32, "max_size": 32}


def _mask_rcnn() -> nn.Module:
    return detection.MaskRCNN(
        _backbone(),
        None,
        32,
        32,
        rpn_anchor_generator=AnchorGenerator(**_ANCHORS),
        rpn_pre_nms_top_n_test=20,
        rpn_post_nms_top_n_test=5,
        rpn_pre_nms_top_n_train=20,
        rpn_post_nms_top_n_train=8,
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        mask_roi_pool=MultiScaleRoIAlign(["0"], 4, 2),
        box_head=detection.faster_rcnn.TwoMLPHead(8 * 9, 16),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(16, 3),
        mask_head=detection.mask_rcnn.MaskRCNNHeads(8, (8,), 1),
        mask_predictor=detection.mask_rcnn.MaskRCNNPredictor(8, 8, 3),
        box_score_thresh=0.0,
    )


def _retina_net() -> nn.Module:
    return detection.RetinaNet(_backbone(), **_SCENE, anchor_generator=AnchorGenerator(**_ANCHORS), score_thresh=0.0)


class _Features(nn.ModuleDict):
    """Two maps, as a backbone of torchvision gives them."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        aux = self["aux"](x)
        return {"aux": aux, "out": self["out"](aux)}


def _deeplab() -> nn.Module:
    features = _Features({"aux": nn.Conv2d(3, 8, 3, 2, 1), "out": nn.Conv2d(8, 8, 3, 2, 1)})
    return segmentation.DeepLabV3(
        features, segmentation.deeplabv3.DeepLabHead(8, 3, (2, 4)), segmentation.fcn.FCNHead(8, 3)
    )


def _mobile() -> nn.Module:
    settings = [
        InvertedResidualConfig(8, 3, 16, 8, True, "RE", 2, 1, 1.0),
        InvertedResidualConfig(8, 3, 16, 8, False, "HS", 1, 1, 1.0),
    ]
    return m.MobileNetV3(settings, 16, num_classes=5)


TORCHVISION: dict[str, Architecture] = {
    "ResNet": Architecture(
        lambda: m.ResNet(m.resnet.BasicBlock, [1, 1, 1, 1], num_classes=5, width_per_group=64), images
    ),
    "DenseNet": Architecture(lambda: m.DenseNet(4, (1, 1, 1, 1), 8, num_classes=5), images),
    "MobileNetV3": Architecture(_mobile, images),
    "ShuffleNetV2": Architecture(lambda: m.ShuffleNetV2([1, 1, 1], [8, 8, 16, 16, 16], num_classes=5), images),
    "ConvNeXt": Architecture(
        lambda: m.ConvNeXt([m.convnext.CNBlockConfig(8, 16, 1), m.convnext.CNBlockConfig(16, None, 1)], num_classes=5),
        images,
    ),
    "ViT": Architecture(lambda: m.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5), images),
    "Swin": Architecture(lambda: m.SwinTransformer([4, 4], 8, [2, 2], [1, 2], [2, 2], num_classes=5), images),
    "Swin V2": Architecture(
        lambda: m.SwinTransformer(
            [4, 4],
            8,
            [2, 2],
            [1, 2],
            [2, 2],
            num_classes=5,
            block=m.swin_transformer.SwinTransformerBlockV2,
            downsample_layer=m.swin_transformer.PatchMergingV2,
        ),
        images,
    ),
    "Video Swin": Architecture(
        lambda: m.video.SwinTransformer3d([2, 4, 4], 8, [2, 2], [1, 2], [2, 2, 2], num_classes=5),
        lambda: torch.randn(1, 3, 4, 32, 32),
    ),
    "DeepLabV3": Architecture(_deeplab, images),
    "Mask R-CNN": Architecture(_mask_rcnn, scenes, labelled_scenes),
    "RetinaNet": Architecture(_retina_net, scenes, labelled_scenes),
}

"""The detectors of this package: torchvision's SSD, Faster R-CNN and RetinaNet on trunks that rules can rewrite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from bnnapps.nn.blocks import ConvUnit
from bnnapps.plugins.detection.trunks import BLOCKS, Extra, ResNetC4, ResNetC5Head, SSDTrunk

_VOC_SCALES = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)


def ssd_vgg16(
    num_classes: int,
    size: int = 300,
    scales: Sequence[float] = _VOC_SCALES,
    width: float = 1.0,
    **options: Any,
) -> nn.Module:
    """SSD on VGG-16 with BatchNorm and strided units, as BiDet's released network.

    At 300 pixels it has the 8,732 default boxes of SSD300 (Liu et al., ECCV 2016): sources of 38, 19, 10, 5, 3 and 1
    places a side. Box sizes are shares of the image: 30, 60, 111, 162, 213, 264 and 315 pixels, as for VOC
    (COCO: 21, 45, 99, 153, 207, 261, 315).

    Args:
        num_classes: with the background.
        size: side that images are brought to; at least 260, since the last convolutions have no padding.
        scales: smallest and largest box sizes of the six sources, in order, as shares of the image.
        width: times the channels of the trunk.
        options: of torchvision's SSD, such as `score_thresh` or `nms_thresh`.

    """

    def w(channels: int) -> int:
        return max(8, round(channels * width))

    extras = [(256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0)]
    trunk = SSDTrunk(
        [w(c) for c in (64, 128, 256, 512, 512)],
        (2, 3, 4, 4, 4),
        source=3,
        tail=w(1024),
        extras=[Extra(w(a), w(b), s, p) for a, b, s, p in extras],
    )
    steps = [8, 16, 32, 64, 100, 300] if size == 300 else None
    boxes = DefaultBoxGenerator([[2], [2, 3], [2, 3], [2, 3], [2], [2]], scales=list(scales), steps=steps)
    detector: nn.Module = SSD(trunk, boxes, (size, size), num_classes, **options)
    return detector


def ssd_small(
    num_classes: int,
    size: int = 160,
    widths: Sequence[int] = (32, 64, 128, 256),
    units: Sequence[int] = (1, 2, 3, 3),
    stem_stride: int = 2,
    source: int = 2,
    scales: Sequence[float] = (0.07, 0.18, 0.35, 0.6, 0.9),
    ratios: Sequence[Sequence[float]] = ((2,), (2, 3), (2, 3), (2,)),
    **options: Any,
) -> nn.Module:
    """SSD on a small plain trunk, for low resolutions and training on a processor.

    At 160 pixels its sources have 20, 10, 5 and 3 places a side.

    Args:
        num_classes: with the background.
        size: side that images are brought to.
        widths: channels of the trunk's stages (`SSDTrunk`).
        units: units of each stage.
        stem_stride: of the first convolution.
        source: the stage that is the first source.
        scales: box sizes as shares of the image, one more than there are sources.
        ratios: for each source, the aspect ratios beside 1 (each with its inverse).
        options: of torchvision's SSD.

    """
    last = widths[-1]
    extra = Extra(last // 2, last, 2, 1)
    trunk = SSDTrunk(widths, units, source, stem_stride, extras=[extra] * (len(ratios) - 2))
    boxes = DefaultBoxGenerator([list(r) for r in ratios], scales=list(scales))
    detector: nn.Module = SSD(trunk, boxes, (size, size), num_classes, **options)
    return detector


class RPNUnitHead(nn.Module):
    """Objectness and offsets of each anchor: a 3x3 convolution with BatchNorm and ReLU, then two 1x1 convolutions.

    As in BiDet's released network, whose 3x3 convolution is binary.
    """

    def __init__(self, in_channels: int, anchors: int, channels: int) -> None:
        super().__init__()
        self.conv = ConvUnit(in_channels, channels, shortcut=False)
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)
        for layer in (self.conv.conv, self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
        for layer in (self.cls_logits, self.bbox_pred):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits (N, A, H, W) and offsets (N, 4 A, H, W) of each map."""
        hidden = [self.conv(level) for level in x]
        return [self.cls_logits(h) for h in hidden], [self.bbox_pred(h) for h in hidden]


def fasterrcnn_c4(
    num_classes: int,
    depth: int = 18,
    widths: Sequence[int] = (64, 128, 256, 512),
    frozen_stem: bool = False,
    stem_pool: bool = True,
    stem_relu: bool = True,
    anchor_sizes: Sequence[int] = (128, 256, 512),
    rpn_channels: int = 512,
    min_size: int = 600,
    max_size: int = 1000,
    **options: Any,
) -> nn.Module:
    """Faster R-CNN on a ResNet, with the fourth stage as the head of each region (Ren et al., 2015; as in BiDet).

    Args:
        num_classes: with the background.
        depth: 18, 34 or 50.
        widths: of the ResNet's stages.
        frozen_stem: see `ResNetC4`,
        stem_pool: for this too,
        stem_relu: and this.
        anchor_sizes: sides of the anchors in pixels, each with the ratios 1:2, 1:1 and 2:1.
        rpn_channels: of the 3x3 convolution of the region proposals.
        min_size: what the shorter side of an image is brought to,
        max_size: unless the longer one would pass this.
        options: of torchvision's FasterRCNN, such as `box_batch_size_per_image`.

    """
    trunk = ResNetC4(depth, widths, frozen_stem, stem_pool, stem_relu)
    anchors = AnchorGenerator((tuple(anchor_sizes),), ((0.5, 1.0, 2.0),))
    head = ResNetC5Head(depth, widths)
    published: dict[str, Any] = {
        "rpn_pre_nms_top_n_train": 12000,
        "rpn_post_nms_top_n_train": 2000,
        "rpn_pre_nms_top_n_test": 6000,
        "rpn_post_nms_top_n_test": 300,
        "box_batch_size_per_image": 256,
        "box_nms_thresh": 0.3,
    }
    detector: nn.Module = FasterRCNN(
        trunk,
        min_size=min_size,
        max_size=max_size,
        rpn_anchor_generator=anchors,
        rpn_head=RPNUnitHead(trunk.out_channels, anchors.num_anchors_per_location()[0], rpn_channels),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
        box_head=head,
        box_predictor=FastRCNNPredictor(head.out_channels, num_classes),
        **published | options,
    )
    return detector


def fasterrcnn_fpn(num_classes: int, depth: int = 18, **options: Any) -> nn.Module:
    """Faster R-CNN with a feature pyramid (Lin et al., CVPR 2017) on a ResNet with BatchNorm.

    Args:
        num_classes: with the background.
        depth: 18, 34 or 50.
        options: of torchvision's FasterRCNN, such as `min_size`.

    """
    trunk = _pyramid(depth, ("layer1", "layer2", "layer3", "layer4"), "pool")
    detector: nn.Module = FasterRCNN(trunk, num_classes, **options)
    return detector


def retinanet_fpn(num_classes: int, depth: int = 18, tower_norm: bool = True, **options: Any) -> nn.Module:
    """RetinaNet (Lin et al., ICCV 2017) on a ResNet with BatchNorm.

    Args:
        num_classes: with the background.
        depth: 18, 34 or 50.
        tower_norm: BatchNorm in the four convolutions of each head, which binary ones need.
        options: of torchvision's RetinaNet, such as `min_size`.

    """
    trunk = _pyramid(depth, ("layer2", "layer3", "layer4"), "p6p7")
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    norm = nn.BatchNorm2d if tower_norm else None
    head = RetinaNetHead(trunk.out_channels, anchors.num_anchors_per_location()[0], num_classes, norm_layer=norm)
    detector: nn.Module = RetinaNet(trunk, num_classes, anchor_generator=anchors, head=head, **options)
    return detector


def _pyramid(depth: int, stages: Sequence[str], more: str) -> BackboneWithFPN:
    block, counts = BLOCKS[depth]
    body = resnet.ResNet(block, list(counts))
    channels = [64 * 2 ** (int(name[-1]) - 1) * block.expansion for name in stages]
    extra = LastLevelMaxPool() if more == "pool" else LastLevelP6P7(256, 256)
    names = {name: str(i) for i, name in enumerate(stages)}
    return BackboneWithFPN(body, names, channels, 256, extra_blocks=extra)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ssd_vgg16": ssd_vgg16,
    "ssd_small": ssd_small,
    "fasterrcnn_c4": fasterrcnn_c4,
    "fasterrcnn_fpn": fasterrcnn_fpn,
    "retinanet_fpn": retinanet_fpn,
}
"""By the name that recipes use."""

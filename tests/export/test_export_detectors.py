"""Detectors of torchvision as ONNX files: the same detections as torch, with suppression inside the file."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign

import bnnapps
from bnnapps.errors import ExportError, UsageError
from bnnapps.export import export, load
from bnnapps.export.detectors import as_graph
from bnnapps.export.detectors.suppression import best, highest, suppress

CLASSES = 4


class Backbone(nn.Module):
    """Feature maps of strides 4 and 8."""

    def __init__(self, channels: int = 16, levels: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.Hardtanh())
        self.conv1 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.out_channels: int | list[int] = channels
        self.levels = levels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.bn1(self.conv1(self.stem(x)))
        second = self.bn2(self.conv2(first))
        return OrderedDict([("0", first), ("1", second)][-self.levels :])


def ssd() -> nn.Module:
    boxes = DefaultBoxGenerator([[2], [2]], scales=[0.2, 0.5, 0.9])
    backbone = Backbone()
    backbone.out_channels = [16, 16]
    return SSD(backbone, boxes, (64, 64), CLASSES, score_thresh=0.1, topk_candidates=40, detections_per_img=20)


def retinanet() -> nn.Module:
    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    return detection.RetinaNet(
        Backbone(), CLASSES, 64, 96, anchor_generator=anchors, topk_candidates=50, detections_per_img=20
    )


def faster_rcnn() -> nn.Module:
    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    pool = MultiScaleRoIAlign(["0", "1"], 3, 2, canonical_scale=32, canonical_level=3)
    return detection.FasterRCNN(
        Backbone(), CLASSES, 64, 96, rpn_anchor_generator=anchors, box_roi_pool=pool, rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_test=30, box_detections_per_img=20, box_score_thresh=0.1,
    )  # fmt: skip


def faster_rcnn_c4() -> nn.Module:
    anchors = AnchorGenerator(((16, 32),), ((0.5, 1.0, 2.0),))
    pool = MultiScaleRoIAlign(["1"], 3, 2)
    return detection.FasterRCNN(
        Backbone(levels=1), CLASSES, 64, 96, rpn_anchor_generator=anchors, box_roi_pool=pool,
        rpn_pre_nms_top_n_test=60, rpn_post_nms_top_n_test=30, box_detections_per_img=20,
    )  # fmt: skip


DETECTORS = {"ssd": ssd, "retinanet": retinanet, "faster_rcnn": faster_rcnn, "faster_rcnn_c4": faster_rcnn_c4}


def made(name: str) -> nn.Module:
    """A detector with random weights whose scores are spread."""
    torch.manual_seed(0)
    model = DETECTORS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.3, 1.5)
    for parameter_name, parameter in model.named_parameters():
        heads = ("head.", "rpn.head.", "box_predictor.")
        if any(part in parameter_name for part in heads) and parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.15)
    if name == "retinanet":
        nn.init.zeros_(model.head.classification_head.cls_logits.bias)
    return model.eval()


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 48, 60, generator=generator) for _ in range(2)]


def found_in(path: Path, pictures: list[Tensor]) -> list[dict[str, Tensor]]:
    """What a file detects, in torchvision's form."""
    session = load(path)
    names = [value.name for value in session.get_outputs()]
    feed = {session.get_inputs()[0].name: torch.stack(pictures).numpy()}
    outputs = {n: torch.from_numpy(v) for n, v in zip(names, session.run(names, feed), strict=True)}
    counts = outputs.pop("num_detections")
    for i, count in enumerate(counts):
        assert all(not bool(value[i, count:].any()) for value in outputs.values())
    return [{name: value[i, :count] for name, value in outputs.items()} for i, count in enumerate(counts)]


@torch.no_grad()
def agree(model: nn.Module, found: list[dict[str, Tensor]], pictures: list[Tensor]) -> None:
    expected = model(pictures)
    assert sum(len(one["boxes"]) for one in expected) > 8
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours["labels"], theirs["labels"])
        assert torch.allclose(ours["scores"], theirs["scores"], atol=1e-5)
        assert torch.allclose(ours["boxes"], theirs["boxes"], atol=1e-2)


# The steps to the packed form begin with those to the portable one.
@pytest.mark.parametrize(("dialect", "name"), [("portable", "ssd"), *(("packed", name) for name in DETECTORS)])
def test_a_binarized_detector_detects_the_same(name: str, dialect: str, tmp_path: Path) -> None:
    model = made(name)
    rules = [{"match": "backbone.conv*", "use": "xnor"}]
    model = bnnapps.binarize(model, rules, example_inputs=(images(),)).eval()
    result = export(model, images(), tmp_path / "model.onnx", dialect)
    assert result.parity.verdict == "exact"
    agree(model, found_in(result.path, images()), images())
    operators = {(node.domain, node.op_type) for node in onnx.load(result.path).graph.node}
    assert ("", "NonMaxSuppression") in operators
    assert (("bnnapps", "BinaryConvFloat") in operators) == (dialect == "packed")


@pytest.mark.parametrize("name", DETECTORS)
def test_the_graph_is_torchvision_s_detector(name: str) -> None:
    model = made(name)
    graph = made(name)
    batch = as_graph(graph, images())
    with torch.no_grad():
        outputs: dict[str, Any] = graph(batch)
    counts = outputs.pop("num_detections")
    found = [{key: value[i, :count] for key, value in outputs.items()} for i, count in enumerate(counts)]
    agree(model, found, images())
    assert list(graph.state_dict()) == list(model.state_dict())


def test_images_in_every_form_and_of_one_size_only() -> None:
    pictures = images()
    for given in (pictures, (pictures,), torch.stack(pictures), {"images": pictures}):
        assert torch.equal(as_graph(made("ssd"), given), torch.stack(pictures))
    assert as_graph(made("ssd"), pictures[0]).shape == (1, 3, 48, 60)
    with pytest.raises(UsageError, match="images of one size"):
        as_graph(made("ssd"), [torch.rand(3, 8, 8), torch.rand(3, 8, 9)])
    with pytest.raises(UsageError, match="a list of"):
        as_graph(made("ssd"), [])


def test_a_detector_with_masks_is_refused(tmp_path: Path) -> None:
    model = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, min_size=64)
    with pytest.raises(ExportError, match="masks or key points"):
        export(model, images(), tmp_path / "model.onnx")
    model = detection.fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, min_size=64)
    with pytest.raises(ExportError, match="FCOS has no ONNX form"):
        export(model, images(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_suppression_by_hand() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 5]]])
    scores = torch.tensor([[[0.6, 0.9, 0.5, 0.7], [0.6, 0.0, 0.05, 0.7]]])
    kept = suppress(boxes, scores, overlap=0.5, lowest=0.1, most=3)
    assert kept.tolist() == [[pytest.approx([0, 0.9, 0.5, 0]), pytest.approx([0.6, 0, 0, 0.7])]]
    kept = suppress(boxes, scores, overlap=0.95, lowest=0.1, most=2)
    assert kept.tolist() == [[pytest.approx([0, 0.9, 0, 0.7]), pytest.approx([0.6, 0, 0, 0.7])]]


def test_of_equal_scores_the_first_are_the_best() -> None:
    scores = torch.tensor([[0.5, 0.7, 0.5, 0.5, 0.1]])
    assert best(scores, 3).tolist() == [[1, 0, 2]]
    assert best(scores, 9).tolist() == [[1, 0, 2, 3, 4]]
    assert highest(scores, 2).tolist() == [pytest.approx([0.5, 0.7, 0, 0, 0])]

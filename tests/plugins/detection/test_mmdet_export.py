"""mmdet's detectors as graphs and as files: the same detections as mmdet finds."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import bnnapps
from bnnapps.errors import ExportError
from bnnapps.export import export, load
from bnnapps.export.detectors import as_graph
from bnnapps.plugins.detection.mmdet import MMDetDetector, mmdet_detector

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mmdet") is None, reason="needs the extra mmdet")

BACKBONE = {
    "depth": 18,
    "base_channels": 16,
    "num_stages": 2,
    "out_indices": [0, 1],
    "strides": [1, 2],
    "dilations": [1, 1],
}
NECK = {"in_channels": [16, 32], "out_channels": 16, "num_outs": 2, "start_level": 0, "add_extra_convs": False}
ANCHORS = {"octave_base_scale": 4, "scales_per_octave": 3, "ratios": [0.5, 1.0, 2.0], "strides": [4, 8]}
HEAD = {"in_channels": 16, "feat_channels": 16, "stacked_convs": 1}
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "anchors": (
        "retinanet_r18_fpn_1x_coco",
        {"backbone": BACKBONE, "neck": NECK, "bbox_head": HEAD | {"anchor_generator": ANCHORS}},
    ),
    "points": (
        "fcos_r50-caffe_fpn_gn-head_1x_coco",
        {
            "backbone": BACKBONE,
            "neck": NECK,
            "bbox_head": HEAD | {"strides": [4, 8], "regress_ranges": [[-1, 32], [32, 999]], "norm_cfg": None},
        },
    ),
    "two stages": (
        "faster-rcnn_r50_fpn_1x_coco",
        {
            "backbone": BACKBONE,
            "neck": NECK,
            "rpn_head": {"in_channels": 16, "feat_channels": 16, "anchor_generator": {"strides": [4, 8]}},
            "roi_head": {
                "bbox_roi_extractor": {"out_channels": 16, "featmap_strides": [4, 8], "finest_scale": 16},
                "bbox_head": {"in_channels": 16, "fc_out_channels": 32},
            },
            "test_cfg": {"rpn": {"nms_pre": 100, "max_per_img": 40}, "rcnn": {"score_thr": 0.2, "max_per_img": 30}},
        },
    ),
}  # fmt: skip


def made(kind: str) -> MMDetDetector:
    """A detector with random weights whose scores are spread, and norms that are none."""
    torch.manual_seed(0)
    source, options = TINY[kind]
    model = mmdet_detector(source, 3, options).eval()
    for name, parameter in model.named_parameters():
        if "head" in name and parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.03)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 1.5)
    return model


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 60, 72, generator=generator) for _ in range(2)]  # padded to 64 x 96


def agree(model: MMDetDetector, outputs: dict[str, Tensor]) -> None:
    with torch.no_grad():
        expected: Any = model(images())
    assert sum(len(one["boxes"]) for one in expected) > 8
    for i, theirs in enumerate(expected):
        count = int(outputs["num_detections"][i])
        assert torch.equal(outputs["labels"][i, :count], theirs["labels"])
        assert torch.allclose(outputs["scores"][i, :count], theirs["scores"], atol=1e-5)
        assert torch.allclose(outputs["boxes"][i, :count], theirs["boxes"], atol=1e-2)
        assert not outputs["scores"][i, count:].any()


@pytest.mark.parametrize("kind", TINY)
def test_the_graph_is_mmdets_detector(kind: str) -> None:
    model = made(kind)
    graph: Any = copy.deepcopy(model)
    batch = as_graph(graph, images())
    with torch.no_grad():
        agree(model, graph(batch))
    assert list(graph.state_dict()) == list(model.state_dict())


def test_a_file_detects_the_same(tmp_path: Path) -> None:
    model = made("two stages")
    rules = [{"match": "detector.backbone.layer2.*", "types": ["conv2d"], "use": "xnor"}]
    binary: Any = bnnapps.binarize(model, rules, example_inputs=(images(),)).eval()
    result = export(binary, images(), tmp_path / "model.onnx", "packed")
    assert result.parity.verdict == "exact"
    operators = {(node.domain, node.op_type) for node in onnx.load(result.path).graph.node}
    assert {("bnnapps", "BinaryConvFloat"), ("", "NonMaxSuppression"), ("", "RoiAlign")} <= operators
    session = load(result.path)
    names = [value.name for value in session.get_outputs()]
    found = session.run(names, {session.get_inputs()[0].name: torch.stack(images()).numpy()})
    agree(binary, {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)})


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("yolox_tiny_8xb8-300e_coco", {}, "YOLOX with a YOLOXHead has no ONNX form"),
        ("mask-rcnn_r50_fpn_1x_coco", {"backbone": BACKBONE, "neck": NECK}, "predicts masks, which have no ONNX form"),
        ("retinanet_r18_fpn_1x_coco", {"test_cfg": {"nms": {"type": "soft_nms"}}}, "greedy suppression within a class"),
    ],
)
def test_what_has_no_form_is_named_before_anything_is_written(
    source: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = mmdet_detector(source, 3, options).eval()
    with pytest.raises(ExportError, match=message):
        export(model, images(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())

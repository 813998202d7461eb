"""Networks of segmentation as ONNX files: the class of each pixel is that of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

import bnnapps
from bnnapps.export.api import export, load
from bnnapps.plugins.segmentation.config import SegmentationModel
from bnnapps.plugins.segmentation.model import Shape, build_shape

BLOCKS = {"method": "groupnet", "bases": 2, "gates": True, "dilations": [2, 3]}
BPAC = [
    {"match": "*.layer4.*", "types": ["residual_block"], "use": BLOCKS},
    {"match": "*.layer4.*", "types": ["conv2d"], "use": "groupnet"},
    {"match": "*.downsample.*", "keep": "shortcuts stay real"},
]
IMAGES = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def network() -> nn.Module:
    torch.manual_seed(0)
    settings = SegmentationModel(backbone="small_resnet", output_stride=8, options={"width": 4})
    model = build_shape(Shape.of(settings, 3))
    bnnapps.binarize(model, BPAC)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # thresholds that are not all zero
                module.running_mean.normal_()
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
        # Scores around zero, so that no class wins everywhere.
        head: Any = model.get_submodule("head.scores.0")
        head.bias -= model.eval()(IMAGES).mean((0, 2, 3))
    return model


def test_the_class_map_of_a_file_is_that_of_the_network(tmp_path: Path) -> None:
    model = network()
    result = export(model, IMAGES, tmp_path / "model.onnx", "packed", dynamic_batch=False)
    assert all(level.verdict == "exact" for level in result.parity.levels)
    assert all(level.argmax_agreement == 1.0 for level in result.parity.levels)
    with torch.no_grad():
        expected = model(IMAGES)
    assert len(expected.argmax(1).unique()) == expected.shape[1]
    (scores,) = load(result.path).run(None, {"x": IMAGES.numpy()})
    assert scores.shape == (2, 3, 32, 48)
    assert torch.equal(torch.from_numpy(scores).argmax(1), expected.argmax(1))
    kinds = [node.op_type for node in onnx.load(result.path).graph.node]
    assert kinds.count("BinaryConvFloat") == 4  # two convolutions of two bases

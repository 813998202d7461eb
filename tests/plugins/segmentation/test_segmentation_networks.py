"""Backbones, heads and whole networks: sizes, dilations, weights, first and last layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import bnnapps
from bnnapps.errors import CheckpointError, RecipeError
from bnnapps.models.dadnet import METHOD, DADNet
from bnnapps.plugins.segmentation.config import SegmentationModel
from bnnapps.plugins.segmentation.model import Shape, build_shape, check_size, load_start
from bnnapps.plugins.segmentation.networks import FCNHead
from bnnapps.plugins.segmentation.trunks import ResNetTrunk, VGGTrunk
from bnnapps.validation import validated

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def network(classes: int = 5, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_shape(Shape.of(SegmentationModel(**settings), classes))


NETWORKS: list[tuple[dict[str, Any], list[str]]] = [
    ({"backbone": "small_resnet"}, ["backbone.conv1", "head.scores.0", "head.scores.1"]),
    ({"backbone": "resnet18", "head": "fcn32s"}, ["backbone.conv1", "head.scores.0"]),
    (
        {"backbone": "resnet18", "head": "fcn8s", "output_stride": 8},
        ["backbone.conv1", "head.scores.0", "head.scores.1", "head.scores.2"],
    ),
    ({"backbone": "resnet34", "head": "deeplab", "output_stride": 8}, ["backbone.conv1", "head.classifier.4"]),
    ({"backbone": "resnet50", "output_stride": 16}, ["backbone.conv1", "head.scores.0", "head.scores.1"]),
    ({"backbone": "vgg11", "head": "fcn8s"}, ["backbone.features.0", *(f"head.scores.{i}" for i in range(3))]),
    ({"backbone": "vgg16_bn", "output_stride": 8}, ["backbone.features.0", "head.scores.0", "head.scores.1"]),
    ({"name": "dadnet", "options": {"width": 8}}, ["encoder.0.conv", "classifier"]),
    ({"torchvision": "fcn_resnet50"}, ["network.backbone.conv1", "network.classifier.4"]),
    ({"torchvision": "deeplabv3_resnet50"}, ["network.backbone.conv1", "network.classifier.4"]),
    (
        {"torchvision": "lraspp_mobilenet_v3_large"},
        ["network.backbone.0.0", "network.classifier.low_classifier", "network.classifier.high_classifier"],
    ),
]


@pytest.mark.parametrize(
    ("settings", "kept"), NETWORKS, ids=lambda v: "-".join(map(str, v.values())) if isinstance(v, dict) else ""
)
def test_every_network_scores_each_pixel_and_knows_its_first_and_last_layers(
    settings: dict[str, Any], kept: list[str]
) -> None:
    model = network(**settings).eval()
    with torch.no_grad():
        assert model(IMAGES).shape == (2, 5, 64, 96)
        assert model(IMAGES[:, :, :61, :83]).shape == (2, 5, 61, 83)
    plan = bnnapps.plan(model, [{"types": ["conv2d"], "use": "bnn"}])
    assert [e.name for e in plan.kept if e.reason.startswith("keep_")] == kept


@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet50"])
def test_networks_of_torchvision_themselves_have_roles(name: str) -> None:
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=3, aux_loss=True)
    plan = bnnapps.plan(model, [{"types": ["conv2d"], "use": "bnn"}])
    kept = [e.name for e in plan.kept if e.type == "conv2d"]
    assert kept == ["backbone.conv1", "classifier.4", "aux_classifier.4"]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_a_trunk_computes_what_the_classifier_does_at_its_stride(name: str, stride: int) -> None:
    torch.manual_seed(0)
    classifier = torchvision.models.get_model(name, weights=None)
    state = {k: v.clone() for k, v in classifier.state_dict().items()}
    trunk = ResNetTrunk(classifier, stride).eval()
    assert all(torch.equal(v, state[k]) for k, v in trunk.state_dict().items())
    with torch.no_grad():
        maps = trunk(IMAGES)
    assert [64 // m.shape[2] for m in maps] == trunk.strides
    assert trunk.strides[-1] == stride
    assert [m.shape[1] for m in maps] == trunk.channels
    replace = [False, stride == 8, stride <= 16]
    if name == "resnet50":  # torchvision dilates bottlenecks alike, and basic blocks not at all
        own = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=replace)
        own.load_state_dict(state)
        features = nn.Sequential(*list(own.eval().children())[:-2])
        with torch.no_grad():
            assert torch.allclose(maps[-1], features(IMAGES), atol=1e-5)
    elif stride == 8:
        rates = [c.dilation[0] for c in trunk.layer4.modules() if isinstance(c, nn.Conv2d) and c.kernel_size == (3, 3)]
        assert rates == [2, 2, 4, 4]


@pytest.mark.parametrize(("stride", "strides"), [(32, [2, 4, 8, 16, 32]), (8, [2, 4, 8, 8, 8])])
def test_a_vgg_keeps_its_size_by_dilation(stride: int, strides: list[int]) -> None:
    trunk = VGGTrunk(torchvision.models.vgg11(weights=None), stride)
    maps = trunk(IMAGES)
    assert [64 // m.shape[2] for m in maps] == trunk.strides == strides
    assert [m.shape[1] for m in maps] == trunk.channels == [64, 128, 256, 512, 512]
    rates = [m.dilation[0] for m in trunk.features if isinstance(m, nn.Conv2d)]
    assert rates == ([1] * 8 if stride == 32 else [1, 1, 1, 1, 1, 1, 2, 2])


def test_scores_of_a_head_add_up_from_the_smallest_map() -> None:
    head = FCNHead([4, 2], 3)
    maps = [torch.randn(1, 9, 12, 12), torch.randn(1, 2, 8, 8), torch.randn(1, 4, 4, 4)]
    expected = head.scores[1](maps[1]) + nn.functional.interpolate(
        head.scores[0](maps[2]), (8, 8), mode="bilinear", align_corners=False
    )
    assert torch.equal(head(maps), expected)


# DAD-Net


def test_dadnet_takes_the_published_memory_and_halves_four_times() -> None:
    model = DADNet(2)
    assert model.bottleneck(model.encoder(IMAGES[:1])).shape[2:] == (4, 6)
    bnnapps.binarize(model, METHOD)
    plan = bnnapps.plan_of(model)
    real = [e.name for e in plan.kept if e.type == "conv2d"]
    assert real == ["encoder.0.conv", "classifier"]
    assert all(e.spec.activation.scale == "none" for e in plan.binarized if e.type == "conv2d")
    plan.assert_ran(model, IMAGES[:1])
    summary = bnnapps.summarize(model, IMAGES[:1])
    assert 0.85e6 < summary.packed_bytes < 0.95e6
    assert summary.params_1bit > 100 * summary.params_float


def test_dilations_of_the_bottleneck_are_given() -> None:
    model = DADNet(2, width=4, dilations=(1, 3))
    assert [unit.conv.dilation for unit in model.bottleneck] == [(1, 1), (3, 3)]


# Weights


def test_a_backbone_starts_from_a_classifier(tmp_path: Path) -> None:
    classifier = torchvision.models.resnet18(weights=None)
    path = tmp_path / "classifier.pt"
    torch.save({"state_dict": {f"module.{k}": v for k, v in classifier.state_dict().items()}}, path)
    settings = SegmentationModel(backbone="resnet18", backbone_checkpoint=str(path))
    model = build_shape(Shape.of(settings, 4))
    load_start(model, settings)
    assert torch.equal(model.backbone.layer4[1].conv2.weight, classifier.layer4[1].conv2.weight)
    other = SegmentationModel(backbone="resnet34", backbone_checkpoint=str(path))
    with pytest.raises(
        CheckpointError, match=r"model\.backbone_checkpoint: in .* 'layer1\.2\.conv1\.weight' is missing"
    ):
        load_start(build_shape(Shape.of(other, 4)), other)


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give exactly one of 'backbone', 'name' and 'torchvision', not none"),
        ({"backbone": "resnet18", "name": "dadnet"}, "not backbone and name"),
        ({"name": "dadnet", "pretrained": True}, "pretrained is for torchvision's weights"),
        ({"name": "dadnet", "backbone_checkpoint": "x"}, "backbone_checkpoint goes with 'backbone'"),
        ({"backbone": "resnet18", "pretrained": True, "checkpoint": "x"}, "give one of 'pretrained', 'checkpoint'"),
        ({"torchvision": "fcn_resnet50", "options": {"aux_loss": True}}, "'aux_loss' is set by the task"),
        ({"backbone": "resnet18", "head": "fcn4s"}, "key 'head' is 'fcn4s'"),
        ({"backbone": "resnet18", "output_stride": 4}, "output_stride"),
    ],
)
def test_settings_of_a_model_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        validated(SegmentationModel, settings, "model", RecipeError)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet19"}, r"model\.backbone: no backbone 'resnet19'; the nearest are 'resnet18'"),
        ({"name": "badnet"}, r"model\.name: no network 'badnet'; the nearest are 'dadnet'"),
        ({"torchvision": "fcn_resnet5"}, r"model\.torchvision: torchvision has no segmentation model 'fcn_resnet5'"),
        ({"backbone": "small_resnet", "pretrained": True}, "there are no published weights of 'small_resnet'"),
        ({"backbone": "small_resnet", "options": {"widths": 3}}, "'small_resnet' with options .*unexpected keyword"),
        ({"name": "dadnet", "options": {"width": 0}}, "dadnet: width is 0"),
    ],
)
def test_networks_that_cannot_be_built(settings: dict[str, Any], message: str) -> None:
    record = SegmentationModel(**settings)
    with pytest.raises(RecipeError, match=message):
        build_shape(Shape.of(record, 3), record.pretrained)


def test_an_image_that_is_too_small_is_said() -> None:
    settings = SegmentationModel(name="dadnet", options={"width": 4})
    shape = Shape.of(settings, 3)
    with pytest.raises(RecipeError, match=r"'dadnet' cannot take images of 8x8: .* set data\.size larger"):
        check_size(build_shape(shape), shape, torch.zeros(1, 3, 8, 8))

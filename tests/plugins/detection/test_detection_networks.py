"""Detectors: their sizes, their roles, what is recorded of them, and Gaussian boxes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

import bnnapps
from bnnapps.errors import CheckpointError, RecipeError, UsageError
from bnnapps.plugins.detection.config import DetectorModel
from bnnapps.plugins.detection.gaussian import GaussianOffsets, offset_layers, sample_offsets
from bnnapps.plugins.detection.model import build_detector, build_shape, fill_resnet, load_weights
from bnnapps.plugins.detection.networks import ssd_vgg16
from bnnapps.plugins.detection.recorder import CANDIDATES, FEATURES, PROPOSALS, RPN_FEATURES, recorder_of
from bnnapps.plugins.detection.trunks import L2Norm
from bnnapps.training.checkpoint import save_file

SMALL: dict[str, Any] = {"min_size": 64, "max_size": 64}
THIN: dict[str, Any] = SMALL | {"widths": [8, 8, 16, 16], "anchor_sizes": [8, 16, 32], "rpn_channels": 16}
THIN |= {"box_batch_size_per_image": 16}
TINY: dict[str, Any] = {"size": 64, "widths": [8, 8, 16, 16]}
DETECTORS: dict[str, dict[str, Any]] = {
    "ssd": {"name": "ssd_small", "options": TINY},
    "faster r-cnn": {"name": "fasterrcnn_c4", "options": THIN},
    "pyramid": {"name": "fasterrcnn_fpn", "options": SMALL},
    "retinanet": {"name": "retinanet_fpn", "options": SMALL},
    "ssdlite": {"torchvision": "ssdlite320_mobilenet_v3_large"},
}
HEADS = {
    "ssd": {f"head.{k}_head.module_list.{i}" for k in ("classification", "regression") for i in range(4)},
    "faster r-cnn": {
        "rpn.head.cls_logits",
        "rpn.head.bbox_pred",
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
    },
    "retinanet": {"head.classification_head.cls_logits", "head.regression_head.bbox_reg"},
}
HEADS["pyramid"] = HEADS["faster r-cnn"]
FIRST = {
    "ssd": "backbone.stages.0.0.conv",
    "faster r-cnn": "backbone.conv1",
    "pyramid": "backbone.body.conv1",
    "retinanet": "backbone.body.conv1",
    "ssdlite": "backbone.features.0.0.0",
}
OFFSETS = {"ssd": 4, "faster r-cnn": 2, "pyramid": 2, "retinanet": 1, "ssdlite": 6}
by_kind = pytest.mark.parametrize("kind", DETECTORS)


def make(kind: str, classes: int = 3, **more: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_detector(DetectorModel(**DETECTORS[kind], **more), classes)[0]


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    torch.manual_seed(1)
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]
    objects = torch.tensor([[4.0, 8.0, 40.0, 44.0], [30.0, 30.0, 60.0, 62.0]])
    return images, [{"boxes": objects[:n], "labels": torch.tensor([2, 3])[:n]} for n in (1, 2)]


@by_kind
def test_a_detector_trains_and_detects(kind: str) -> None:
    model = make(kind)
    images, targets = batch()
    losses = model.train()(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        found = model.eval()(images)
    assert [d.keys() for d in found] == [{"boxes", "scores", "labels"}] * 2
    assert all(1 <= int(label) <= 3 for d in found for label in d["labels"])


def test_a_stem_without_pooling_has_finer_maps_and_the_same_weights() -> None:
    options = DETECTORS["faster r-cnn"]["options"]
    fine, coarse = (
        build_detector(DetectorModel(name="fasterrcnn_c4", options=options | {"stem_pool": pool}), 3)[0]
        for pool in (False, True)
    )
    images = torch.rand(1, 3, 64, 64)
    sides = [network.get_submodule("backbone")(images).shape[-1] for network in (fine, coarse)]
    assert sides == [8, 4]
    coarse.load_state_dict(fine.state_dict())


@pytest.mark.parametrize("relu", [False, True])
def test_a_stem_without_relu_leaves_signs_something_to_tell(relu: bool) -> None:
    options = DETECTORS["faster r-cnn"]["options"] | {"stem_relu": relu}
    model, _ = build_detector(DetectorModel(name="fasterrcnn_c4", options=options), 3)
    warnings = bnnapps.plan(model, "bidet_sc", example_inputs=(batch()[0],)).warnings
    assert [w for w in warnings if "always +1" in w] == [w for w in warnings if relu]
    assert any("backbone.layer1.0.conv1" in w for w in warnings) == relu


@by_kind
def test_first_layer_and_heads_stay_real(kind: str) -> None:
    model = make(kind)
    plan = bnnapps.plan(model, [{"types": ["conv2d", "linear"], "use": "bireal"}], example_inputs=(batch()[0],))
    kept = {e.name for e in plan.entries if not e.binarized and e.type in ("conv2d", "linear")}
    if kind == "ssdlite":  # every layer of the heads, the depthwise ones too
        heads = {n for n, m in model.named_modules() if n.startswith("head.") and isinstance(m, nn.Conv2d)}
        assert kept == heads | {FIRST[kind]}
        assert len(heads) == 24
    else:
        assert kept == HEADS[kind] | {FIRST[kind]}


@pytest.mark.parametrize("kind", ["ssd", "faster r-cnn", "pyramid", "retinanet"])
@pytest.mark.parametrize("method", ["bidet", "bidet_sc"])
def test_bidets_rules_reach_every_block_and_restoring_is_exact(kind: str, method: str) -> None:
    model = make(kind)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    images, targets = batch()
    bnnapps.binarize(model, method, example_inputs=(images,))
    plan = bnnapps.plan_of(model)
    kinds = {e.type for e in plan.binarized}
    assert kinds >= ({"conv2d", "conv_unit"} if kind == "ssd" else {"conv2d", "residual_block"})
    plan.assert_ran(model, (images,))
    losses = model.train()(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    bnnapps.restore(model)
    fresh = model.state_dict()
    assert fresh.keys() == state.keys()
    assert all(torch.equal(fresh[k], v) for k, v in state.items() if "running" not in k and "tracked" not in k)


def test_ssd300_has_the_published_default_boxes() -> None:
    model = ssd_vgg16(21, width=0.125).eval()
    seen: list[Any] = []
    model.anchor_generator.register_forward_hook(lambda m, a, out: seen.append((out, a[1])))
    model([torch.rand(3, 300, 300)])
    boxes, maps = seen[0]
    assert [m.shape[-1] for m in maps] == [38, 19, 10, 5, 3, 1]
    assert len(boxes[0]) == 8732
    sides = (boxes[0][:, 2:] - boxes[0][:, :2]).round().tolist()
    # The square boxes of the first place of each map: s_k, and the root of s_k s_(k+1).
    assert sides[0] == [30.0, 30.0]
    assert sides[1] == [round((30 * 60) ** 0.5)] * 2
    convs = [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 17 + 2 + 8
    assert [c.out_channels for c in (convs[0], convs[17], convs[18])] == [8, 128, 128]


def test_l2norm_gives_vectors_of_the_scale() -> None:
    norm = L2Norm(4, 20.0)
    x = torch.randn(2, 4, 3, 3)
    assert torch.allclose(norm(x).norm(dim=1), torch.full((2, 3, 3), 20.0), atol=1e-4)
    assert torch.equal(norm(torch.zeros(1, 4, 1, 1)), torch.zeros(1, 4, 1, 1))


# What losses read


@pytest.mark.parametrize("kind", ["ssd", "faster r-cnn", "pyramid", "retinanet", "ssdlite"])
@pytest.mark.parametrize("training", [True, False])
def test_candidates_are_the_boxes_and_scores_behind_the_detections(kind: str, training: bool) -> None:
    model = make(kind).train(training)
    images, targets = batch()
    recorder = recorder_of(model, (CANDIDATES, FEATURES))
    with recorder:
        found = model(images, targets)
    extras = recorder.extras()
    assert extras.keys() == {CANDIDATES, FEATURES}
    for i, candidates in enumerate(extras[CANDIDATES]):
        assert candidates.labels.tolist() == targets[i]["labels"].tolist()
        assert candidates.scores.shape[1] == 3
        assert candidates.scores.requires_grad
        assert not candidates.boxes.requires_grad
        if training:
            continue
        back = 64 / (320 if kind == "ssdlite" else 64)
        for box, score, label in zip(*(found[i][k] for k in ("boxes", "scores", "labels")), strict=True):
            boxes, scores = candidates.of_class(int(label))
            same = (scores - score).abs() < 1e-5
            assert box_iou(box[None], boxes[same] * back).max() > 0.99
    torch.stack([c.scores.sum() for c in extras[CANDIDATES]]).sum().backward()
    assert any(p.grad is not None and bool(p.grad.ne(0).any()) for n, p in model.named_parameters() if "backbone" in n)


def test_proposals_have_the_gradient_that_the_released_code_loses() -> None:
    model = make("faster r-cnn").train()
    recorder = recorder_of(model, (PROPOSALS, RPN_FEATURES))
    with recorder:
        model(*batch())
    extras = recorder.extras()
    assert [p.scores.shape[1] for p in extras[PROPOSALS]] == [1, 1]
    assert [p.labels.tolist() for p in extras[PROPOSALS]] == [[1], [1, 1]]
    assert [m.shape for maps in extras[RPN_FEATURES] for m in maps] == [(16, 4, 4)] * 2
    extras[PROPOSALS][0].scores.sum().backward()
    assert model.rpn.head.cls_logits.weight.grad.abs().sum() > 0


def test_proposals_are_those_of_the_detector() -> None:
    model = make("faster r-cnn").eval()
    recorder = recorder_of(model, (PROPOSALS,))
    seen: list[Any] = []
    handle = model.rpn.register_forward_hook(lambda m, a, out: seen.append(out[0]))
    with recorder:
        model(batch()[0])
    handle.remove()
    for own, candidates in zip(seen[0], recorder.extras()[PROPOSALS], strict=True):
        assert box_iou(own, candidates.boxes).max(dim=1).values.min() > 0.99


def test_nothing_is_watched_outside_of_a_recording_or_without_a_wish() -> None:
    model = make("ssd").train()
    hooks = [len(m._forward_hooks) for m in model.modules()]
    with recorder_of(model, ()) as nothing:
        assert [len(m._forward_hooks) for m in model.modules()] == hooks
        model(*batch())
    assert nothing.extras() == {}
    with recorder_of(model, (FEATURES,)):
        assert [len(m._forward_hooks) for m in model.modules()] != hooks
    assert [len(m._forward_hooks) for m in model.modules()] == hooks


def test_an_unknown_detector_is_named() -> None:
    with pytest.raises(UsageError, match="'features' is not known of a Linear"):
        recorder_of(nn.Linear(2, 2), (FEATURES,))


# Gaussian boxes


@by_kind
def test_gaussian_boxes_start_as_the_layers_that_they_replace(kind: str) -> None:
    plain, gaussian = make(kind).eval(), make(kind, gaussian=True, gaussian_noise=0.5).eval()
    assert len(offset_layers(plain)) == OFFSETS[kind]
    assert sum(isinstance(m, GaussianOffsets) for m in gaussian.modules()) == OFFSETS[kind]
    for own in [m for m in gaussian.modules() if isinstance(m, GaussianOffsets)]:
        rows = own.layer.weight.unflatten(0, (-1, 8))
        assert (rows[:, :4] == 0).all()
        assert (rows[:, 4:] != 0).any()
    gaussian_state = {k.replace(".layer.", "."): v for k, v in gaussian.state_dict().items()}
    with torch.no_grad():
        for name, value in plain.state_dict().items():
            other = gaussian_state[name]
            value.copy_(other if other.shape == value.shape else other.unflatten(0, (-1, 8))[:, 4:].flatten(0, 1))
        for one, two in zip(plain(batch()[0]), gaussian(batch()[0]), strict=True):
            assert all(torch.equal(one[k], two[k]) for k in one)


def test_samples_have_the_mean_and_deviation_that_the_layer_says() -> None:
    outputs = torch.zeros(4000, 16)
    outputs[:, 4:8], outputs[:, :4] = 3.0, 2 * torch.tensor(0.5).log()
    outputs[:, 8:12] = 2 * torch.tensor(2.0).log()
    torch.manual_seed(0)
    drawn = sample_offsets(outputs, 0.5)
    assert drawn.shape == (4000, 8)
    assert torch.allclose(drawn.mean(dim=0), torch.tensor([3.0] * 4 + [0.0] * 4), atol=0.05)
    assert torch.allclose(drawn.std(dim=0), torch.tensor([0.25] * 4 + [1.0] * 4), rtol=0.05)
    assert torch.equal(sample_offsets(outputs, 0.0), outputs.unflatten(1, (-1, 8))[:, :, 4:].flatten(1))
    assert torch.isfinite(sample_offsets(torch.full((2, 8), 1e4), 1.0)).all()


def test_only_with_noise_the_variance_learns() -> None:
    for noise in (0.0, 0.5):
        outputs = torch.randn(3, 8, requires_grad=True)
        sample_offsets(outputs, noise).square().sum().backward()
        assert bool(outputs.grad[:, :4].ne(0).all()) == (noise > 0)


# Weights and bad settings


def test_a_file_of_another_number_of_classes_fills_all_but_the_heads(tmp_path: Any) -> None:
    torch.manual_seed(5)
    source = build_detector(DetectorModel(**DETECTORS["ssd"]), 5)[0]
    save_file({"state_dict": source.state_dict()}, tmp_path / "a.pt")
    model = make("ssd")
    before = model.head.classification_head.module_list[0].weight.clone()
    load_weights(model, str(tmp_path / "a.pt"))
    assert torch.equal(model.backbone.stages[0][0].conv.weight, source.backbone.stages[0][0].conv.weight)
    assert torch.equal(model.head.classification_head.module_list[0].weight, before)


def test_a_trunk_alone_fills_the_trunk(tmp_path: Any) -> None:
    torch.manual_seed(5)
    source = build_detector(DetectorModel(**DETECTORS["ssd"]), 3)[0]
    save_file({"state_dict": source.backbone.state_dict()}, tmp_path / "a.pt")
    model = make("ssd")
    load_weights(model, str(tmp_path / "a.pt"))
    assert torch.equal(model.backbone.extras[1][0].conv.weight, source.backbone.extras[1][0].conv.weight)


def test_a_resnet_fills_trunk_and_regions_head() -> None:
    from torchvision.models import resnet18

    torch.manual_seed(5)
    classifier = resnet18()
    for name, layer4 in (("fasterrcnn_c4", "roi_heads.box_head.layer4"), ("fasterrcnn_fpn", "backbone.body.layer4")):
        model = build_detector(DetectorModel(name=name, options=SMALL), 3)[0]
        fill_resnet(model, classifier.state_dict())
        found = model.get_submodule(layer4)
        assert torch.equal(found[1].conv2.weight, classifier.layer4[1].conv2.weight)


def test_a_file_that_does_not_fit_is_named(tmp_path: Any) -> None:
    model = make("ssd")
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("backbone.extras")}
    save_file({"state_dict": state}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"model.checkpoint: .*a.pt do not fit: 'backbone.extras.0.0.bn.bias' is"):
        load_weights(model, str(tmp_path / "a.pt"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "ssd_smal"}, "model.name: there is no detector 'ssd_smal'; the nearest are 'ssd_small'"),
        ({"torchvision": "ssd300"}, "torchvision has no detector 'ssd300'; the nearest are 'ssd300_vgg16'"),
        ({"torchvision": "maskrcnn_resnet50_fpn"}, "torchvision has no detector 'maskrcnn_resnet50_fpn'"),
        (
            {"name": "fasterrcnn_c4", "options": {"depht": 34}},
            "model.options: 'fasterrcnn_c4' has no option 'depht'; the nearest are 'depth'",
        ),
        ({"torchvision": "ssd300_vgg16", "options": {"nms_tresh": 0.5}}, "the nearest are 'nms_thresh'"),
        ({"name": "ssd_small", "options": {"ratios": [[2]], "scales": [0.1, 0.2]}}, "model.name 'ssd_small' with"),
        ({"name": "fasterrcnn_c4", "options": {"depth": 19}}, "model.name 'fasterrcnn_c4' with options"),
        ({"name": "ssd_small", "pretrained_backbone": True}, "no published weights for the trunk of 'ssd_small'"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_detector(DetectorModel(**settings), 3)


def test_a_shape_builds_the_same_network_again() -> None:
    model, shape = build_detector(DetectorModel(**DETECTORS["faster r-cnn"], gaussian=True), 3)
    again = build_shape(type(shape)(**shape._asdict()))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}

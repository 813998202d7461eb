from __future__ import annotations

import copy
import importlib
import importlib.util
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bnnapps
from bnnapps.errors import MissingExtraError, RecipeError, UsageError
from bnnapps.plugins.detection.mmdet import MMDetDetector, from_config, mmdet_detector, scalar_losses
from bnnapps.plugins.detection.mmdet_build import laid_over, require_mmdet, unfrozen, with_classes, without_downloads

needs_mmdet = pytest.mark.skipif(importlib.util.find_spec("mmdet") is None, reason="needs the extra mmdet")
R18: dict[str, Any] = {"backbone": {"depth": 18}, "neck": {"in_channels": [64, 128, 256, 512], "out_channels": 32}}
FASTER = R18 | {
    "rpn_head": {"in_channels": 32, "feat_channels": 32},
    "roi_head": {
        "bbox_roi_extractor": {"out_channels": 32},
        "bbox_head": {"in_channels": 32, "fc_out_channels": 64},
    },
}
RETINA = {"neck": {"out_channels": 32}, "bbox_head": {"in_channels": 32, "feat_channels": 32}}
ZOO: dict[str, tuple[str, dict[str, Any], int]] = {
    "two stages": ("faster-rcnn_r50_fpn_1x_coco", FASTER, 96),
    "dense": ("retinanet_r18_fpn_1x_coco", RETINA, 96),
    "ssd": ("ssd300_coco", {}, 300),
    "without anchors": ("yolox_tiny_8xb8-300e_coco", {}, 96),
}
STRIDES = (4, 8, 16, 32, 64)
by_kind = pytest.mark.parametrize("kind", ZOO)


def made(kind: str, classes: int = 3) -> MMDetDetector:
    torch.manual_seed(0)
    source, options, _ = ZOO[kind]
    return mmdet_detector(source, classes, options)


def batch(kind: str) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    torch.manual_seed(1)
    side = ZOO[kind][2]
    images = [torch.rand(3, side, side) for _ in range(2)]
    box = torch.tensor([[10.0, 12.0, 60.0, 70.0], [30.0, 5.0, 90.0, 50.0]])
    return images, [
        {"boxes": box, "labels": torch.tensor([2, 3])},
        {"boxes": box[:0], "labels": torch.tensor([]).long()},
    ]


@needs_mmdet
@by_kind
def test_it_is_called_as_torchvisions_detectors_are(kind: str) -> None:
    model, (images, targets) = made(kind), batch(kind)
    losses = model.train()(images, targets)
    assert isinstance(losses, dict)
    assert losses
    assert all(value.dim() == 0 and bool(value.isfinite()) for value in losses.values())
    assert all("loss" in name for name in losses)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    before = [image.clone() for image in images]
    with torch.no_grad():
        found = model.eval()(images)
    assert all(torch.equal(a, b) for a, b in zip(images, before, strict=True))
    assert len(found) == 2
    for detections in found:
        assert isinstance(detections, dict)
        count = len(detections["scores"])
        assert detections["boxes"].shape == (count, 4)
        assert detections["boxes"].dtype == detections["scores"].dtype == torch.float32
        assert detections["labels"].dtype == torch.int64
        assert detections["labels"].shape == (count,)
        assert set(detections["labels"].tolist()) <= {1, 2, 3}


@needs_mmdet
def test_training_without_targets_is_refused() -> None:
    with pytest.raises(UsageError, match="needs targets"):
        made("dense").train()(batch("dense")[0])


@needs_mmdet
def test_pixels_arrive_as_the_preprocessor_of_the_config_wants_them() -> None:
    model = made("dense")
    seen: list[Tensor] = []
    model.network.backbone.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    image = torch.rand(3, 64, 64)
    with torch.no_grad():
        model.eval()([image])
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    torch.testing.assert_close(seen[0][0], (image * 255 - mean) / std, rtol=1e-5, atol=1e-5)


@needs_mmdet
@by_kind
def test_rules_heads_copies_and_the_exact_inverse(kind: str) -> None:
    model, (images, targets) = made(kind), batch(kind)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    names = [(n, type(m)) for n, m in model.named_modules()]
    plan = bnnapps.plan(model, "bireal", example_inputs=(images[:1],))
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, (images[:1],))
    losses = model.train()(images, targets)
    assert isinstance(losses, dict)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        bnnapps.apply_plan(from_config(model.config), plan),
    ]
    copies[2].load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = model.eval()(images)
        for other in copies:
            for ours, theirs in zip(expected, other.eval()(images), strict=True):
                assert all(torch.equal(ours[k], theirs[k]) for k in ours)  # type: ignore[call-overload]
    bnnapps.restore(model)
    assert [(n, type(m)) for n, m in model.named_modules()] == names
    running = ("running_mean", "running_var", "num_batches_tracked")
    for key, value in model.state_dict().items():
        assert key.endswith(running) or torch.equal(value, state[key])


HEADS = {
    "two stages": ["rpn_head.rpn_cls", "rpn_head.rpn_reg", "roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg"],
    "dense": ["bbox_head.retina_cls", "bbox_head.retina_reg"],
    "ssd": [f"bbox_head.{branch}_convs.{i}.0" for branch in ("cls", "reg") for i in range(6)],
    "without anchors": [f"bbox_head.multi_level_conv_{of}.{i}" for of in ("cls", "reg", "obj") for i in range(3)],
}
FIRST = {"two stages": "conv1", "dense": "conv1", "ssd": "features.0", "without anchors": "stem.conv.conv"}


@needs_mmdet
@by_kind
def test_first_and_last_layers_come_from_mmdets_own_structure(kind: str) -> None:
    model = made(kind)
    plan = bnnapps.plan(model, "bireal", example_inputs=(batch(kind)[0][:1],))
    reasons = {e.name: e.reason for e in plan.kept}
    assert {n for n, r in reasons.items() if r == "keep_last: 1"} == {f"detector.{name}" for name in HEADS[kind]}
    assert [n for n, r in reasons.items() if r == "keep_first: 1"] == [f"detector.backbone.{FIRST[kind]}"]
    assert "mmdet's" in str(plan)
    bare = bnnapps.plan(model.detector, "bireal")  # mmdet's own model, without the wrapper
    assert {e.name for e in bare.kept if e.reason == "keep_last: 1"} == set(HEADS[kind])


@needs_mmdet
def test_a_checkpoint_of_mmdet_loads_with_and_without_the_name_of_the_wrapper() -> None:
    source = made("dense")
    state = source.detector.state_dict()
    for loaded in (state, source.state_dict()):
        torch.manual_seed(5)
        other = mmdet_detector(*ZOO["dense"][:1], 3, ZOO["dense"][1])
        other.load_state_dict(loaded)
        assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), state.values(), strict=True))
    assert [k for k in state if k.startswith("detector.")] == []
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({"backbone.conv1.weight": state["backbone.conv1.weight"]})


@needs_mmdet
def test_a_binary_detector_takes_a_float_checkpoint() -> None:
    source, model = made("dense"), made("dense")
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.mul_(-1)
    images = batch("dense")[0]
    bnnapps.binarize(model, "bireal", example_inputs=(images,))
    model.load_state_dict(source.detector.state_dict())
    weight = model.get_parameter("detector.backbone.layer1.0.conv1.weight")
    assert torch.equal(weight, source.get_parameter("detector.backbone.layer1.0.conv1.weight"))


@needs_mmdet
def test_masks_are_learned_from_or_asked_for() -> None:
    torch.manual_seed(0)
    model = mmdet_detector("mask-rcnn_r50_fpn_1x_coco", 2, R18 | {"neck": {"in_channels": [64, 128, 256, 512]}}).train()
    images = [torch.rand(3, 64, 64)]
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 50.0]]), "labels": torch.tensor([1])}
    with pytest.raises(UsageError, match="learns masks, and the targets have boxes alone"):
        model(images, [target])
    losses = model(images, [target | {"masks": torch.ones(1, 64, 64)}])
    assert bool(losses["loss_mask"].isfinite())  # type: ignore[call-overload]


@needs_mmdet
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": {"type": "os.system"}}, "model.backbone.type is 'os.system', a name outside of mmdet"),
        ({"_scope_": "evil"}, "model._scope_ is 'evil', a name outside"),
        ({"backbone": {"type": "mmpretrain.ResNet"}}, "a name outside of mmdet, mmcv and mmengine"),
        ({"backbone": {"pretrained": "x.pth"}}, "model.backbone.pretrained makes mmdet load 'x.pth' by itself"),
        ({"teacher_ckpt": "x.pth"}, "model.teacher_ckpt makes mmdet load"),
        ({"backbone": {"depth": 19}}, "mmdet cannot build this config: KeyError: .*19"),
        ({"backbone": {"type": "Nothing"}}, "mmdet cannot build this config: KeyError: .*Nothing is not in the"),
        ({"backbone": {"depth": torch.tensor(1)}}, "model.backbone.depth is a Tensor, which is no plain data"),
    ],
)
def test_a_config_that_cannot_be_built_gets_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        mmdet_detector("retinanet_r18_fpn_1x_coco", 2, options)
    assert "\n" not in str(caught.value)


@needs_mmdet
def test_a_config_without_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    path.write_text("dataset = dict(type='CocoDataset')")
    with pytest.raises(RecipeError, match="describes no model"):
        mmdet_detector(str(path), 2)
    path.write_text("model = dict(type='FPN', in_channels=[8], out_channels=8, num_outs=1)")
    with pytest.raises(RecipeError, match="FPN is no detector of mmdet"):
        mmdet_detector(str(path), 2)


@needs_mmdet
def test_code_runs_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    mark = tmp_path / "ran"
    base = "_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n"
    path.write_text(f"{base}import pathlib\npathlib.Path({str(mark)!r}).touch()\ndel pathlib\n")
    with pytest.raises(RecipeError, match="line 2: 'import pathlib' is more than plain data"):
        mmdet_detector(str(path), 2, RETINA)
    assert not mark.exists()
    assert isinstance(mmdet_detector(str(path), 2, RETINA | {"run_code": True}), MMDetDetector)
    assert mark.exists()


def test_without_mmdet_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(MissingExtraError, match=r"model\.mmdet needs .* pip install 'bnnapps\[mmdet\]'"):
        require_mmdet()
    with pytest.raises(MissingExtraError, match=r"pip install 'bnnapps\[mmdet\]'"):
        mmdet_detector("ssd300_coco", 2)


@needs_mmdet
def test_an_installation_that_does_not_fit_is_told_apart_from_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def broken(name: str, package: str | None = None) -> Any:
        if name == "mmdet.models":
            raise ImportError("_ext.so: undefined symbol: _ZN3c10")
        return real(name, package)

    monkeypatch.setattr("bnnapps.plugins.detection.mmdet_build.importlib.import_module", broken)
    with pytest.raises(RecipeError, match=r"cannot be imported .*undefined symbol.*built for this torch"):
        mmdet_detector("retinanet_r18_fpn_1x_coco", 2, RETINA)


def test_losses_are_summed_as_mmengine_sums_them() -> None:
    found = scalar_losses({"loss_a": torch.tensor([1.0, 3.0]), "loss_b": [torch.tensor(1.0), torch.ones(2)], "acc": 7})
    assert {k: float(v) for k, v in found.items()} == {"loss_a": 2.0, "loss_b": 2.0}


def test_changes_of_a_config_are_made_on_copies() -> None:
    init = {"type": "Pretrained", "checkpoint": "torchvision://resnet50"}
    model = {
        "backbone": {
            "depth": 50,
            "frozen_stages": 1,
            "norm_eval": True,
            "init_cfg": init,
            "norm_cfg": {"type": "BN", "requires_grad": False},
        },
        "rpn_head": {"num_classes": 1},
        "roi_head": {"bbox_head": [{"num_classes": 80}, {"num_classes": 80, "init_cfg": [init, {"type": "Normal"}]}]},
    }
    before = copy.deepcopy(model)
    found, wanted = without_downloads(model)
    assert wanted == "torchvision://resnet50"
    assert "init_cfg" not in found["backbone"]
    found = unfrozen(with_classes(found, 3))
    assert found["backbone"] == {
        "depth": 50,
        "frozen_stages": -1,
        "norm_eval": False,
        "norm_cfg": {"type": "BN", "requires_grad": True},
    }
    assert found["rpn_head"] == {"num_classes": 1}
    assert [head["num_classes"] for head in found["roi_head"]["bbox_head"]] == [3, 3]
    assert found["roi_head"]["bbox_head"][1]["init_cfg"] == [{"type": "Normal"}]
    laid = laid_over(found, {"backbone": {"depth": 18}, "roi_head": None, "rpn_head": {"_delete_": True, "a": 1}})
    assert laid["backbone"]["depth"] == 18
    assert laid["roi_head"] is None
    assert laid["rpn_head"] == {"a": 1}
    assert model == before


@needs_mmdet
@pytest.mark.parametrize("kind", ["two stages", "dense", "ssd"])
def test_what_losses_read_agrees_with_what_the_detector_finds(kind: str) -> None:
    model, (images, targets) = made(kind), batch(kind)
    wanted = ("features", "candidates", "rpn_features", "proposals")
    with model.train().make_recorder(wanted) as recorder:
        model(images, targets)
        extras = recorder.extras()
    assert set(extras) == (set(wanted) if kind == "two stages" else {"features", "candidates"})
    for image, target in zip(extras["candidates"], targets, strict=True):
        assert image.scores.shape[1] == 3
        assert image.scores.requires_grad
        assert not image.boxes.requires_grad
        assert torch.equal(image.labels, target["labels"])
        assert torch.equal(image.objects, target["boxes"])
    assert all(len(maps) >= 1 and maps[0].requires_grad for maps in extras["features"])
    with torch.no_grad(), model.eval().make_recorder(("candidates",)) as recorder:
        found = model(images)
        candidates = recorder.extras()["candidates"]
    for detections, image in zip(found, candidates, strict=True):  # each detection is one of the candidates
        assert isinstance(detections, dict)
        for box, score, label in list(zip(*(detections[k] for k in ("boxes", "scores", "labels")), strict=True))[:20]:
            boxes, scores = image.of_class(int(label))
            near = (boxes - box).abs().amax(dim=1) < 1e-2
            assert bool(near.any())
            assert float((scores[near] - score).abs().min()) < 1e-4


@needs_mmdet
def test_proposals_are_of_one_class_and_come_with_the_objects() -> None:
    model, (images, targets) = made("two stages"), batch("two stages")
    with model.train().make_recorder(("proposals", "rpn_features")) as recorder:
        model(images, targets)
        extras = recorder.extras()
    first = extras["proposals"][0]
    places = sum(math.ceil(96 / s) ** 2 for s in STRIDES)
    assert first.scores.shape == (3 * places, 1)
    assert first.boxes.shape == (3 * places, 4)
    assert first.labels.tolist() == [1, 1]
    sides = [math.ceil(96 / s) for s in STRIDES]
    assert [tuple(m.shape) for m in extras["rpn_features"][1]] == [(32, n, n) for n in sides]


@needs_mmdet
def test_a_detector_without_anchors_has_no_candidates() -> None:
    model = made("without anchors")
    assert model.make_recorder(()).extras() == {}
    with pytest.raises(UsageError, match="'candidates' is not known of mmdet's YOLOX"):
        model.make_recorder(("candidates",))

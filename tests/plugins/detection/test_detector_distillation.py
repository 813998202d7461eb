from __future__ import annotations

import copy
import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

import bnnapps
from bnnapps.errors import UsageError
from bnnapps.losses import LossHub, LossInputs, LossTerm, Outputs
from bnnapps.losses.imitation import grid_anchors, imitation_mask
from bnnapps.plugins.detection.distillation import ImitationOptions, imitation_masks
from bnnapps.plugins.detection.maps import Maps
from bnnapps.plugins.detection.networks import fasterrcnn_c4, fasterrcnn_fpn, ssd_small
from bnnapps.plugins.detection.recorder import recorder_of

SMALL: dict[str, Any] = {"min_size": 96, "max_size": 96}


def mmdet_faster(classes: int) -> nn.Module:
    from bnnapps.plugins.detection.mmdet import mmdet_detector

    changes = {"backbone": {"depth": 18}, "neck": {"in_channels": [64, 128, 256, 512]}}
    return mmdet_detector("faster-rcnn_r50_fpn_1x_coco", classes - 1, changes)


DETECTORS: dict[str, Any] = {
    "c4": lambda: fasterrcnn_c4(3, widths=(8, 16, 32, 64), rpn_channels=16, anchor_sizes=(16, 32, 64), **SMALL),
    "fpn": lambda: fasterrcnn_fpn(3, **SMALL),
    "ssd": lambda: ssd_small(3, size=96, widths=(8, 16, 32, 32)),
    "mmdet": lambda: mmdet_faster(3),
}
needs_mmdet = pytest.mark.skipif(importlib.util.find_spec("mmdet") is None, reason="needs the extra mmdet")
by_detector = pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=needs_mmdet if k == "mmdet" else ()) for k in DETECTORS]
)


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    torch.manual_seed(2)
    box = torch.tensor([[10.0, 12.0, 60.0, 70.0]])
    images = [torch.rand(3, 96, 96), torch.rand(3, 96, 80)]
    return images, [{"boxes": box, "labels": torch.tensor([1])}, {"boxes": box, "labels": torch.tensor([2])}]


def seen(kind: str) -> tuple[LossInputs, nn.Module]:
    torch.manual_seed(0)
    teacher = DETECTORS[kind]().eval()
    student = bnnapps.binarize(copy.deepcopy(teacher), "asda", example_inputs=([torch.rand(3, 96, 96)],)).train()
    images, targets = batch()
    with recorder_of(student, ("maps",)) as recorder:
        student(images, targets)
        own = recorder.extras()
    with torch.no_grad(), recorder_of(teacher, ("maps",)) as recorder:
        teacher(images, targets)
        other = recorder.extras()
    return LossInputs(Outputs(extras=own), Outputs(extras=other)), student


@by_detector
def test_maps_of_student_and_teacher_are_of_the_same_images(kind: str) -> None:
    inputs, _ = seen(kind)
    own: Maps = inputs.student.extras["maps"]
    other: Maps = inputs.of_teacher("").extras["maps"]
    assert [m.shape for m in own.levels] == [m.shape for m in other.levels]
    assert own.batch == other.batch
    assert own.sizes == other.sizes
    assert all(len(objects) == 1 for objects in own.objects)
    assert (own.regions is None) == (kind == "ssd")
    assert own.levels[0].requires_grad
    assert not other.levels[0].requires_grad


@by_detector
def test_features_near_objects_are_imitated(kind: str) -> None:
    inputs, student = seen(kind)
    total, _ = LossHub([LossTerm("feature_imitation", options={"sizes": [2.0, 4.0]})])(inputs)
    own: Maps = inputs.student.extras["maps"]
    other: Maps = inputs.of_teacher("").extras["maps"]
    masks = imitation_masks(own, ImitationOptions(sizes=[2.0, 4.0]))
    places = sum(int(m.sum()) for m in masks)
    assert 0 < places < sum(m.numel() for m in masks)
    squares = sum(
        float(((a - b).detach().square().sum(1) * mask).sum())
        for a, b, mask in zip(own.levels, other.levels, masks, strict=True)
    )
    assert float(total.detach()) == pytest.approx(squares / (2 * places), rel=1e-4)
    total.backward()
    assert any(
        p.grad is not None and bool(p.grad.any()) for n, p in student.named_parameters() if "conv1" in n or "conv" in n
    )


def test_an_object_counts_on_the_level_where_it_fits_best() -> None:
    levels = [torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 4, 4)]
    small, large = torch.tensor([[32.0, 32, 40, 40]]), torch.tensor([[32.0, 32, 64, 64]])
    found = [
        imitation_masks(Maps(levels, (128, 128), [(128, 128)], [box]), ImitationOptions(sizes=[1.0], ratios=[1.0]))
        for box in (small, large)
    ]
    assert [[int(m.sum()) for m in masks] for masks in found] == [[1, 0], [0, 1]]
    assert bool(found[0][0][0, 4, 4])
    assert bool(found[1][1][0, 1, 1])
    anchors = grid_anchors((16, 16), (128, 128), [1.0], [1.0])
    assert torch.equal(imitation_mask(anchors, small).view(1, 16, 16), found[0][0])


@by_detector
def test_proposals_are_paired_where_there_are_some(kind: str) -> None:
    inputs, student = seen(kind)
    hub = LossHub([LossTerm("proposal_discrepancy", options={"most": 8, "share": 0.5})])
    assert hub.extras == hub.teacher_extras == ("maps",)
    if kind == "ssd":
        with pytest.raises(UsageError, match="this detector has none: take one of two stages"):
            hub(inputs)
        return
    total, _ = hub(inputs)
    assert bool(total.isfinite())
    total.backward()
    grads = [p.grad for p in student.parameters() if p.grad is not None]
    assert grads
    assert all(bool(g.isfinite().all()) for g in grads)
    same = LossInputs(inputs.student, inputs.student)
    assert float(hub(same)[0].detach()) == pytest.approx(0, abs=1e-6)


def test_regions_are_aligned_on_the_map_of_their_size() -> None:
    torch.manual_seed(0)
    level = torch.randn(2, 3, 8, 8)
    maps = Maps([level], (128, 128), [(128, 128), (100, 128)], [torch.zeros(0, 4)] * 2)
    boxes = [torch.tensor([[16.0, 16, 80, 80]]), torch.tensor([[0.0, 0, 64, 32], [32, 32, 100, 100]])]
    torch.testing.assert_close(maps.aligned(boxes, 7), roi_align(level, boxes, 7, 1 / 16, 2))


def test_without_maps_or_a_teacher_the_error_says_what_is_missing() -> None:
    hub = LossHub([LossTerm("feature_imitation")])
    with pytest.raises(UsageError, match="needs 'maps' of the student"):
        hub(LossInputs(Outputs(), Outputs()))
    inputs, _ = seen("ssd")
    with pytest.raises(UsageError, match="there is none"):
        hub(LossInputs(inputs.student))
    with pytest.raises(UsageError, match="options of 'feature_imitation'"):
        LossTerm("feature_imitation", options={"share": 2.0})

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from detection_cases import A, B, C, Found, boxes, found, metrics_of, truth
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.detection import MeanAveragePrecision

from bnnapps.errors import MissingExtraError, TrainingError
from bnnapps.plugins.detection.average_precision import (
    FALSE,
    IGNORED,
    TRUE,
    area_under,
    eleven_points,
    judged,
    overlaps,
    precision_recall,
)
from bnnapps.plugins.detection.metrics import DetectionMetrics


def test_overlaps_in_pixels():
    # VOC's pixels 1..10 and 6..15, both ends included, share 5 of 15 columns: (10 - 6 + 1) / (15 - 1 + 1).
    one, other = np.array([[0.0, 0, 10, 4]]), np.array([[5.0, 0, 15, 4]])
    assert overlaps(one, other)[0, 0] == pytest.approx(1 / 3)
    assert overlaps(one, other, crowd=True)[0, 0] == pytest.approx(1 / 2)
    assert overlaps(one, one + 100)[0, 0] == 0
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0] == 0
    assert overlaps(np.zeros((0, 4)), one).shape == (0, 1)


def test_a_closed_form():
    """Three objects; by falling scores right, wrong, right, wrong."""
    detections = found([A, (60, 0, 70, 10), B, (80, 0, 90, 10)], [0.9, 0.8, 0.7, 0.2], [1, 1, 1, 1])
    metrics = metrics_of([detections], [truth([A, B, C], [1, 1, 1])], "a")
    curve = metrics.curves()["a"]
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert curve.objects == 3
    values = metrics.compute()
    assert values["map50"] == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    # Recalls 0, .1, .2, .3 reach precision 1; .4, .5, .6 reach 2/3; the other four are never reached.
    assert values["map50_07"] == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)
    # COCO's 101 recalls: 0 to .33 (34 of them) and .34 to .66 (33).
    assert values["map50_coco"] == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert values["map"] == pytest.approx(values["map50_coco"])  # the right ones are exact
    assert values["ap/a"] == values["map50"]
    assert values["false_positives_per_image"] == 1  # 0.8; the other lies below 0.3
    assert values["recall"] == pytest.approx(2 / 3)


def test_eleven_points_compares_recalls_as_whole_numbers():
    """3 of 10 reaches recall 0.3, which 3 * 0.1 = 0.30000000000000004 would miss."""
    curve = precision_recall(np.full(3, TRUE), np.array([0.9, 0.8, 0.7]), 10)
    assert eleven_points(curve) == pytest.approx(4 / 11)
    assert area_under(curve) == pytest.approx(0.3)
    grid = [
        max([p for r, p in zip(curve.recall, curve.precision, strict=True) if r >= 0.1 * k], default=0)
        for k in range(11)
    ]
    assert sum(grid) / 11 == pytest.approx(3 / 11)  # what floats would say


def test_the_second_detection_of_an_object_is_false():
    detections = found([A, (0, 0, 10, 9), (1, 0, 10, 10)], [0.5, 0.9, 0.7], [1, 1, 1])
    values = metrics_of([detections], [truth([A], [1])], "a").compute()
    assert values["false_positives_per_image"] == 2
    assert values["ap/a"] == 1  # the surest is right


def test_vocs_rule_and_cocos_where_a_second_object_would_fit():
    """VOC asks only the object that is overlapped most, even if it is taken; COCO goes on to the next one."""
    one, other = (0, 0, 10, 10), (0, 2, 10, 12)
    detections = found([one, (0, 0.5, 10, 10.5)], [0.9, 0.8], [1, 1])  # the second overlaps 0.905 and 0.739
    values = metrics_of([detections], [truth([one, other], [1, 1])], "a").compute()
    assert values["map50"] == pytest.approx(0.5)
    assert values["map50_coco"] == pytest.approx(1.0)


def test_exactly_half_is_enough():
    assert judged(*_one_against((0, 0, 10, 5), A)).tolist() == [TRUE]
    assert judged(*_one_against((0, 0, 10, 4.99), A)).tolist() == [FALSE]


def _one_against(box, other):
    none = np.zeros(1, bool)
    return np.array([box], float), np.array([0.5]), np.array([other], float), none, none


def test_difficult_objects_count_neither_way():
    target = truth([A, B], [1, 1], difficult=[False, True])
    both = metrics_of([found([A, B, B], [0.5, 0.9, 0.8], [1, 1, 1])], [target], "a").compute()
    assert (both["map50"], both["map50_07"], both["false_positives_per_image"], both["recall"]) == (1, 1, 0, 1)
    assert both["map"] == pytest.approx(1)
    missed = metrics_of([found([A], [0.5], [1])], [target], "a").compute()
    assert (missed["map50"], missed["map"]) == (1, pytest.approx(1))


def test_crowd_regions_count_neither_way():
    crowd = (20, 0, 80, 30)
    target = truth([A, crowd], [1, 1], crowd=[False, True])
    rows = [A, (25, 5, 30, 10), (60, 10, 75, 25), (75, 0, 95, 10)]  # two within the crowd; one a quarter
    values = metrics_of([found(rows, [0.5, 0.9, 0.8, 0.7], [1, 1, 1, 1])], [target], "a").compute()
    assert values["false_positives_per_image"] == 1
    assert values["map50"] == pytest.approx(0.5)
    assert values["map50_coco"] == pytest.approx(0.5)
    outcome = judged(
        boxes(*rows).double().numpy(),
        np.array([0.5, 0.9, 0.8, 0.7]),
        boxes(A, crowd).double().numpy(),
        np.zeros(2, bool),
        np.array([False, True]),
    )
    assert outcome.tolist() == [TRUE, IGNORED, IGNORED, FALSE]


def test_classes_without_objects_have_no_average_and_their_detections_are_false():
    values = metrics_of([found([A, A], [0.9, 0.8], [1, 2])], [truth([A], [1])]).compute()
    assert "ap/b" not in values
    assert (values["map50"], values["false_positives_per_image"]) == (1, 1)
    assert values["map"] == pytest.approx(1)


def test_images_without_anything():
    values = metrics_of([found([], [], []), found([A], [0.9], [1])], [truth([], []), truth([], [])]).compute()
    assert values["false_positives_per_image"] == 0.5
    assert {values[key] for key in ("map50", "map50_07", "map", "map50_coco", "map75", "recall")} == {0.0}
    nothing = metrics_of([found([], [], [])], [truth([A], [1])]).compute()
    assert nothing["ap/a"] == nothing["map"] == nothing["recall"] == 0
    with pytest.raises(ValueError, match="no image"):
        DetectionMetrics("a").compute()


def test_the_score_threshold_is_included():
    detections = found([(60, 0, 70, 10)] * 3, [0.5, 0.25, 0.125], [1, 1, 1])
    for threshold, false in ((0.5, 1), (0.25, 2), (0.0, 3)):
        values = metrics_of([detections], [truth([A], [1])], "a", score_threshold=threshold).compute()
        assert values["false_positives_per_image"] == false


def test_bad_detections():
    metrics = DetectionMetrics("ab")
    for rows, score in (([(0, 0, math.nan, 1)], 0.5), ([A], math.inf)):
        with pytest.raises(TrainingError, match="not finite"):
            metrics.update([found(rows, [score], [1])], [truth([A], [1])])
    with pytest.raises(ValueError, match="detection has a label of 0 to 0; expected 1 to 2"):
        metrics.update([found([A], [0.5], [0])], [truth([A], [1])])
    with pytest.raises(ValueError, match="target has a label of 3 to 3"):
        metrics.update([found([A], [0.5], [1])], [truth([A], [3])])
    with pytest.raises(ValueError, match="detections of 1 images and targets of 0"):
        metrics.update([found([A], [0.5], [1])], [])


def test_without_a_library_for_coco_the_extra_is_named(monkeypatch):
    metrics = metrics_of([found([A], [0.5], [1])], [truth([A], [1])])
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    metrics.compute()  # pycocotools does as well
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bnnapps\[detection\]'"):
        metrics.compute()


def random_images(seed: int, apart: bool, count: int = 25) -> tuple[list[Found], list[Found]]:
    """Objects of three classes; four noisy detections of each, some of another class, scores without ties.

    `apart`: objects lie so far from each other that no detection overlaps two.
    """
    g = torch.Generator().manual_seed(seed)
    detections, targets = [], []
    for _ in range(count):
        n = int(torch.randint(0, 6, (1,), generator=g))
        corner = torch.rand(n, 2, generator=g) * (8 if apart else 50)
        if apart:
            corner[:, 0] += torch.arange(n) * 60
        size = 10 + torch.rand(n, 2, generator=g) * 20
        labels = torch.randint(1, 4, (n,), generator=g)
        targets.append({"boxes": torch.cat([corner, corner + size], 1), "labels": labels})
        rows = targets[-1]["boxes"].repeat(4, 1) + torch.randn(4 * n, 4, generator=g) * 3
        rows[:, 2:] = torch.maximum(rows[:, 2:], rows[:, :2] + 1)
        other = torch.randint(1, 4, (4 * n,), generator=g)
        names = torch.where(torch.rand(4 * n, generator=g) < 0.2, other, labels.repeat(4))
        detections.append({"boxes": rows, "scores": torch.rand(4 * n, generator=g), "labels": names})
    return detections, targets


def library(detections: list[Found], targets: list[Found], backend: str, recalls: list[float] | None = None, **more):
    metric = MeanAveragePrecision(backend=backend, rec_thresholds=recalls, class_metrics=True, **more)
    metric.update(detections, targets)
    return metric.compute()


@given(st.integers(0, 10_000))
@settings(max_examples=8)
def test_vocs_average_precision_agrees_with_cocos_evaluation_at_vocs_recalls(seed):
    """Where no detection overlaps two objects both rules find the same; the libraries then integrate the same curve.

    At the recalls k / n of a class with n objects, the mean of the envelope is the area under it; at k / 10 it is
    VOC2007's. (Recalls of the libraries are floats; a hair less than k / 10 reaches the same points.)
    """
    detections, targets = random_images(seed, apart=True)
    metrics = metrics_of(detections, targets, "abc")
    ours, curves = metrics.compute(), metrics.curves()
    tenths = [max(0.0, k / 10 - 1e-9) for k in range(11)]
    for backend in ("pycocotools", "faster_coco_eval"):
        theirs = library(detections, targets, backend, tenths, iou_thresholds=[0.5])
        assert ours["map50_07"] == pytest.approx(float(theirs["map"]), abs=1e-6)
        coco = library(detections, targets, backend)
        assert ours["map"] == pytest.approx(float(coco["map"]), abs=1e-6)
        assert ours["map50_coco"] == pytest.approx(float(coco["map_50"]), abs=1e-6)
        assert ours["map75"] == pytest.approx(float(coco["map_75"]), abs=1e-6)
        for label, name in enumerate("abc", 1):
            n = curves[name].objects
            found = library(detections, targets, backend, [k / n - 1e-9 for k in range(1, n + 1)], iou_thresholds=[0.5])
            at = found["classes"].tolist().index(label)
            assert ours[f"ap/{name}"] == pytest.approx(float(found["map_per_class"][at]), abs=1e-6)


@given(st.integers(0, 10_000))
@settings(max_examples=8)
def test_in_crowded_images_the_two_rules_stay_close(seed):
    detections, targets = random_images(seed, apart=False)
    values = metrics_of(detections, targets, "abc").compute()
    assert abs(values["map50"] - values["map50_coco"]) < 0.05
    assert values["map"] < values["map50_coco"]


def test_cocos_own_handling_of_crowds_agrees_in_both_libraries():
    detections, targets = random_images(3, apart=False)
    g = torch.Generator().manual_seed(0)
    flagged = [t | {"crowd": torch.rand(len(t["labels"]), generator=g) < 0.3} for t in targets]
    ours = metrics_of(detections, flagged, "abc").compute()
    theirs = [{"boxes": t["boxes"], "labels": t["labels"], "iscrowd": t["crowd"].long()} for t in flagged]
    for backend in ("pycocotools", "faster_coco_eval"):
        assert ours["map"] == pytest.approx(float(library(detections, theirs, backend)["map"]), abs=1e-6)


def test_images_may_come_in_any_batches():
    detections, targets = random_images(5, apart=False)
    whole, parts = metrics_of(detections, targets, "abc"), DetectionMetrics("abc")
    for at in range(0, len(targets), 4):
        parts.update(detections[at : at + 4], targets[at : at + 4])
    assert whole.compute() == parts.compute()
    assert len(parts) == len(targets)

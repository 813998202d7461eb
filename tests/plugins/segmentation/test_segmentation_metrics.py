"""IoU and accuracy against counts by hand, against torchmetrics, and on what is ignored."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.classification import multiclass_jaccard_index

from bnnapps.errors import TrainingError
from bnnapps.plugins.segmentation.metrics import compute, confusion, intersection_over_union, pixel_loss

NAMES = ("sky", "road", "car")


def test_counts_by_hand() -> None:
    truth = torch.tensor([[[0, 0, 1], [1, 2, 255]]])
    guess = torch.tensor([[[0, 1, 1], [1, 0, 2]]])
    matrix = confusion(guess, truth, 3)
    assert matrix.tolist() == [[[1, 1, 0], [0, 2, 0], [1, 0, 0]]]
    assert intersection_over_union(matrix[0]).tolist() == [1 / 3, 2 / 3, 0]
    found = compute(matrix[0], torch.tensor([10.0, 5.0]), NAMES)
    assert found["miou"] == pytest.approx(1 / 3)
    assert found["pixel_accuracy"] == pytest.approx(3 / 5)
    assert found["loss"] == 2
    assert [found[f"iou/{n}"] for n in NAMES] == pytest.approx([1 / 3, 2 / 3, 0])


def test_images_are_counted_one_by_one_and_add_up() -> None:
    torch.manual_seed(0)
    truth, guess = torch.randint(0, 4, (5, 8, 9)), torch.randint(0, 4, (5, 8, 9))
    truth[torch.rand(truth.shape) < 0.2] = 255
    each = confusion(guess, truth, 4)
    assert each.shape == (5, 4, 4)
    for i in range(5):
        assert torch.equal(each[i], confusion(guess[i : i + 1], truth[i : i + 1], 4)[0])
    assert int(each.sum()) == int((truth != 255).sum())


def test_the_mean_agrees_with_torchmetrics() -> None:
    torch.manual_seed(1)
    truth, guess = torch.randint(0, 5, (3, 16, 16)), torch.randint(0, 5, (3, 16, 16))
    truth[torch.rand(truth.shape) < 0.1] = 255
    found = compute(confusion(guess, truth, 5).sum(0), torch.tensor([1.0, 1.0]), [str(i) for i in range(5)])
    known = truth != 255
    expected = multiclass_jaccard_index(guess[known], truth[known], 5, average="macro")
    assert found["miou"] == pytest.approx(float(expected))


def test_a_class_that_no_mask_has_counts_nowhere() -> None:
    truth, guess = torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 2, 1, 1]]])
    found = compute(confusion(guess, truth, 3).sum(0), torch.tensor([1.0, 4.0]), NAMES)
    assert found["miou"] == pytest.approx((1 / 2 + 1) / 2)
    assert "iou/car" not in found
    assert math.isnan(float(intersection_over_union(torch.zeros(1, 1))[0]))


def test_the_loss_is_that_of_the_pixels_that_count() -> None:
    torch.manual_seed(2)
    logits, truth = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    truth[0, 0] = 255
    found = pixel_loss(logits, truth)
    assert found[:, 1].tolist() == [15, 20]
    expected = F.cross_entropy(logits, truth, ignore_index=255)
    assert float(found[:, 0].sum() / found[:, 1].sum()) == pytest.approx(float(expected))


def test_nothing_to_count_and_divergence_are_errors() -> None:
    with pytest.raises(TrainingError, match="not finite"):
        compute(torch.eye(3), torch.tensor([float("nan"), 4.0]), NAMES)
    with pytest.raises(TrainingError, match="every pixel of the dev masks is ignored"):
        compute(torch.zeros(3, 3), torch.tensor([0.0, 0.0]), NAMES)

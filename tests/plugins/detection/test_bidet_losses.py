"""BiDet's losses against closed forms; gradients and finite values where the released code loses them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bnnapps.errors import UsageError
from bnnapps.losses import LossHub, LossInputs, LossTerm, Outputs
from bnnapps.plugins.detection.losses import (
    PriorOptions,
    compression,
    difficulty,
    prior_of_images,
    sample_weights,
    sparse_prior,
    surviving_scores,
)
from bnnapps.plugins.detection.recorder import Candidates


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).view(-1, 4)


APART = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10))


def image(scores: Tensor, labels: list[int], where: Tensor = APART) -> Candidates:
    return Candidates(where, scores, torch.tensor(labels, dtype=torch.int64), APART[: len(labels)])


# The entropy


def test_equal_scores_have_the_entropy_of_a_uniform_distribution() -> None:
    for count in (1, 2, 7):
        value = sparse_prior(torch.full((count,), 0.3, dtype=torch.float64), 2, epsilon=1e-12)
        assert float(value) == pytest.approx(math.log(count) / 2, abs=1e-9)


def test_the_value_is_the_entropy_divided_by_the_number_of_objects() -> None:
    scores = torch.tensor([0.8, 0.15, 0.05], dtype=torch.float64)
    expected = -sum(p * math.log(p) for p in (0.8, 0.15, 0.05)) / 3
    assert float(sparse_prior(2 * scores, 3, epsilon=1e-12)) == pytest.approx(expected, abs=1e-9)


def test_the_gradient_leaves_the_denominator_out() -> None:
    scores = torch.tensor([0.9, 0.3, 0.05, 0.01], dtype=torch.float64, requires_grad=True)
    epsilon, objects = 1e-6, 2
    sparse_prior(scores, objects, epsilon).backward()
    total = float(scores.detach().sum())
    shares = [s / total for s in scores.tolist()]
    expected = [-(math.log(p + epsilon) + p / (p + epsilon)) / (objects * total) for p in shares]
    torch.testing.assert_close(scores.grad, torch.tensor(expected, dtype=torch.float64))
    # A share above 1/e grows, one below shrinks: mass goes to the sure boxes.
    assert [g > 0 for g in expected] == [p < 1 / math.e for p in shares]


def test_scores_that_underflow_give_finite_values_and_gradients() -> None:
    scores = torch.tensor([0.7, 1e-42, 0.0], requires_grad=True)
    value = sparse_prior(scores, 1)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()
    nothing = torch.zeros(2, requires_grad=True)
    sparse_prior(nothing, 1).backward()
    assert torch.isfinite(nothing.grad).all()


# Which boxes, images and classes count


def test_only_boxes_above_the_threshold_that_survive_suppression_count() -> None:
    where = boxes((0, 0, 10, 10), (1, 0, 11, 10), (40, 0, 50, 10), (60, 0, 70, 10))
    scores = torch.tensor([0.5, 0.9, 0.02, 0.2])
    kept = surviving_scores(where, scores, PriorOptions())
    assert kept.tolist() == pytest.approx([0.9, 0.2])
    assert surviving_scores(where, scores, PriorOptions(iou=0.9)).tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert surviving_scores(where, scores, PriorOptions(most=1)).tolist() == pytest.approx([0.9])
    assert len(surviving_scores(where, scores, PriorOptions(score_threshold=0.95))) == 0


def test_a_pair_counts_only_with_more_boxes_than_objects() -> None:
    scores = torch.tensor([[0.9, 0.0], [0.5, 0.8], [0.4, 0.0], [0.0, 0.0]], requires_grad=True)
    value = prior_of_images([image(scores, [1, 2])], PriorOptions())
    own = sparse_prior(torch.tensor([0.9, 0.5, 0.4]), 1)  # class 2 has one box for one object
    assert float(value) == pytest.approx(float(own))
    value.backward()
    assert (scores.grad[:, 1] == 0).all()
    assert (scores.grad[:3, 0] != 0).all()
    few = scores.detach().clone().requires_grad_()
    none = prior_of_images([image(few, [1, 1, 1, 2])], PriorOptions())
    none.backward()
    assert float(none) == 0
    assert (few.grad == 0).all()


def test_pairs_of_image_and_class_are_averaged() -> None:
    one = image(torch.tensor([[0.9], [0.5], [0.0], [0.0]]), [1])
    two = image(torch.tensor([[0.2], [0.2], [0.2], [0.2]]), [1, 1])
    empty = image(torch.tensor([[0.9], [0.5], [0.2], [0.0]]), [])
    found = prior_of_images([one, empty, two], PriorOptions())
    expected = (sparse_prior(torch.tensor([0.9, 0.5]), 1) + sparse_prior(torch.full((4,), 0.2), 2)) / 2
    assert float(found) == pytest.approx(float(expected))


def test_each_class_may_have_boxes_of_its_own() -> None:
    own = torch.stack([APART, APART[[0, 0, 0, 0]]], dim=1)
    scores = torch.tensor([[0.9, 0.5], [0.5, 0.4], [0.4, 0.3], [0.3, 0.2]])
    found = prior_of_images([image(scores, [1, 2], own)], PriorOptions())
    assert float(found) == pytest.approx(float(sparse_prior(scores[:, 0], 1)))  # those of class 2 are one box


# Compression


def test_compression_is_the_mean_square_of_each_map() -> None:
    small, large = torch.full((2, 3, 3), 2.0, requires_grad=True), torch.full((4, 5), 1.0)
    found = compression([[small, large], [large, large * 3]])
    assert found.tolist() == pytest.approx([(4 + 1) / 2, (1 + 9) / 2])
    found[0].backward()
    assert torch.allclose(small.grad, torch.full_like(small, 2 * 2.0 / 18 / 2))
    assert compression([[torch.zeros(0, 8)]]).tolist() == [0.0]


def test_weights_have_mean_one_and_favour_easy_images() -> None:
    weights = sample_weights(torch.tensor([0.1, 1.0, 3.0]))
    assert float(weights.mean()) == pytest.approx(1)
    assert weights[0] > weights[1] > weights[2]
    scaled = -torch.tensor([0.1, 1.0, 3.0]) / (4.1 / 3)
    assert torch.allclose(weights, 3 * scaled.exp() / scaled.exp().sum())
    assert sample_weights(torch.zeros(4)).tolist() == [1.0] * 4


def test_difficulty_falls_with_the_score_of_a_box_that_fits() -> None:
    scores = torch.tensor([[0.5], [0.1], [0.0], [0.0]], requires_grad=True)
    found = difficulty(image(scores, [1, 1]))
    assert float(found) == pytest.approx(-(math.log(0.5 + 1e-6) + math.log(0.1 + 1e-6)) / 2, rel=1e-4)
    assert not found.requires_grad
    assert float(difficulty(image(scores, []))) == 0
    assert math.isfinite(float(difficulty(Candidates(boxes(), torch.zeros(0, 1), torch.tensor([1]), APART[:1]))))


# In the hub


def inputs(progress: float = 1.0, **extras: object) -> LossInputs:
    losses = {"a": torch.tensor(1.5), "b": torch.tensor(0.25)}
    return LossInputs(student=Outputs(losses=losses, extras=extras), progress=progress)


def hub() -> LossHub:
    return LossHub(
        [
            LossTerm("task"),
            LossTerm("bidet_bottleneck", 0.1, start=0.5),
            LossTerm("bidet_prior", 0.2, start=0.5, options={"iou": 0.3}),
        ]
    )


def test_the_task_loss_is_the_sum_of_the_detectors_own_losses_and_the_others_begin_later() -> None:
    assert hub().extras == ("candidates", "features")
    total, parts = hub()(inputs(0.4))
    assert (float(total), parts.keys()) == (1.75, {"task"})
    images = [image(torch.tensor([[0.9], [0.5], [0.0], [0.0]]), [1])]
    total, parts = hub()(inputs(0.5, candidates=images, features=[[torch.full((2, 2), 3.0)]]))
    prior = float(sparse_prior(torch.tensor([0.9, 0.5]), 1))
    assert float(total) == pytest.approx(1.75 + 0.1 * 9 + 0.2 * prior)
    assert float(parts["bidet_prior"]) == pytest.approx(prior)


def test_auto_weighs_each_image() -> None:
    easy, hard = torch.tensor([[0.99], [0.0], [0.0], [0.0]]), torch.tensor([[0.01], [0.0], [0.0], [0.0]])
    images = [image(easy, [1]), image(hard, [1])]
    features = [[torch.full((2,), 1.0)], [torch.full((2,), 2.0)]]
    term = LossHub([LossTerm("autobidet_bottleneck")])
    weights = sample_weights(torch.stack([difficulty(i) for i in images]))
    total, _ = term(inputs(candidates=images, features=features))
    assert float(total) == pytest.approx(float((weights * torch.tensor([1.0, 4.0])).mean()))
    assert float(total) < 2.5  # the hard image, whose features are larger, counts less


def test_what_a_task_does_not_give_is_named() -> None:
    with pytest.raises(UsageError, match="the loss 'bidet_rpn_prior' needs 'proposals' of the student"):
        LossHub([LossTerm("bidet_rpn_prior")])(inputs(candidates=[]))
    with pytest.raises(UsageError, match="label_smoothing"):
        LossHub([LossTerm("task", options={"label_smoothing": 0.1})])(inputs())

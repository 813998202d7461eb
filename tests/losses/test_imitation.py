from __future__ import annotations

import math

import pytest
import torch

from bnnapps.errors import UsageError
from bnnapps.losses.imitation import (
    box_overlaps,
    entropy_distillation,
    grid_anchors,
    imitation_mask,
    information_discrepancy,
    masked_imitation,
    most_discrepant,
)


def test_overlaps_are_intersection_over_union() -> None:
    left = torch.tensor([[0.0, 0, 10, 10], [0, 0, 0, 0]])
    right = torch.tensor([[5.0, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    torch.testing.assert_close(box_overlaps(left, right), torch.tensor([[50 / 150, 1.0, 0.0], [0.0, 0.0, 0.0]]))


def test_anchors_stand_around_the_centre_of_every_place() -> None:
    found = grid_anchors((2, 3), (20, 60), [1.0, 2.0], [1.0, 4.0])
    assert found.shape == (6, 4, 4)
    centres = (found[..., :2] + found[..., 2:]) / 2
    assert centres[:, 0].tolist() == [[10, 5], [30, 5], [50, 5], [10, 15], [30, 15], [50, 15]]
    size = (found[..., 2:] - found[..., :2])[0]
    torch.testing.assert_close(size[:, 1] / size[:, 0], torch.tensor([1.0, 4, 1, 4]) * 10 / 20)
    torch.testing.assert_close(size.prod(1), torch.tensor([1.0, 1, 4, 4]) * 200)


def test_places_count_that_overlap_an_object_nearly_as_well_as_the_best() -> None:
    anchors = grid_anchors((4, 4), (40, 40), [1.0], [1.0])
    mask = imitation_mask(anchors, torch.tensor([[0.0, 0, 10, 10], [15, 10, 25, 20]]), 0.5)
    # The first object is place 0 itself; the second lies half on each of two places.
    assert mask.nonzero().flatten().tolist() == [0, 5, 6]
    assert not imitation_mask(anchors, torch.zeros(0, 4)).any()
    assert not imitation_mask(anchors, torch.tensor([[100.0, 100, 110, 110]])).any()
    assert imitation_mask(anchors, torch.tensor([[0.0, 0, 40, 40]])).all()


def test_imitation_is_half_the_mean_square_over_the_places() -> None:
    student = [torch.randn(2, 3, 2, 2, requires_grad=True), torch.randn(2, 3, 1, 1, requires_grad=True)]
    teacher = [torch.randn(2, 3, 2, 2), torch.randn(2, 3, 1, 1)]
    masks = [torch.tensor([[[1, 0], [0, 0]], [[1, 1], [0, 0]]]).bool(), torch.tensor([[[0]], [[1]]]).bool()]
    places = [(0, 0, 0, 0), (0, 1, 0, 0), (0, 1, 0, 1), (1, 1, 0, 0)]
    expected = sum((student[m][n, :, i, j] - teacher[m][n, :, i, j]).square().sum() for m, n, i, j in places) / (2 * 4)
    loss = masked_imitation(student, teacher, masks)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    loss.backward()
    assert student[0].grad is not None
    torch.testing.assert_close(student[0].grad[0, :, 0, 0], (student[0] - teacher[0])[0, :, 0, 0].detach() / 4)
    assert float(student[0].grad[0, :, 1, 1].abs().sum()) == 0
    nothing = masked_imitation(student, teacher, [m & False for m in masks])
    assert float(nothing) == 0
    assert nothing.requires_grad
    with pytest.raises(UsageError, match="take a teacher of the same architecture"):
        masked_imitation(student, teacher[:1], masks)


def test_discrepancy_is_a_distance_in_deviations() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(3, 2, 7, 7, dtype=torch.float64)
    student = teacher.clone()
    student[1] += 2.0  # both channels shifted
    student[2, 0] += 0.5
    found = information_discrepancy(student, teacher)
    sigma = teacher.flatten(2).std(dim=2, correction=0)
    expected = [0.0, float((2 / sigma[1]).sum()), float(0.5 / sigma[2, 0])]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    # A channel scaled in both networks alike keeps its distance.
    torch.testing.assert_close(information_discrepancy(student * 5, teacher * 5), found, rtol=1e-4, atol=1e-4)


def test_the_inner_step_takes_the_largest() -> None:
    values = torch.tensor([1.0, 5.0, 3.0, 5.0])
    assert most_discrepant(values, 0.5).tolist() == [1, 3]
    assert most_discrepant(values, 0.6).tolist() == [1, 3, 2]
    assert most_discrepant(values, 0.01).tolist() == [1]
    assert most_discrepant(values[:0], 0.5).tolist() == []


def test_entropy_is_zero_in_agreement_and_its_gradient_the_documented_one() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert float(entropy_distillation(teacher.clone(), teacher)) == pytest.approx(0, abs=1e-9)
    student = (teacher + torch.randn_like(teacher)).requires_grad_()
    loss = entropy_distillation(student, teacher)
    s, t = student.detach().flatten(2), teacher.flatten(2)
    v = (s.var(2, correction=0) + t.var(2, correction=0)) / 2 + 1e-6
    v_t = t.var(2, correction=0) + 1e-6
    expected = 0.5 * ((s - t).square().mean(2) / v + (v / v_t).log()).mean()
    assert float(loss) == pytest.approx(float(expected))
    loss.backward()
    torch.testing.assert_close(student.grad.flatten(2), (s - t) / v[..., None] / (2 * 3 * 16))
    # -log of the Gaussian density, up to the teacher's own part
    law = torch.distributions.Normal(t, v.sqrt()[..., None])
    own = torch.distributions.Normal(t, v_t.sqrt()[..., None])
    assert float(loss) == pytest.approx(float((-law.log_prob(s) + own.log_prob(t)).mean()))
    assert float(entropy_distillation(student[:0], teacher[:0])) == 0
    flat = torch.zeros(1, 2, 3, 3, requires_grad=True)
    assert math.isfinite(float(entropy_distillation(flat, torch.ones(1, 2, 3, 3))))

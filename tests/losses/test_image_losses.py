from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnapps.errors import UsageError
from bnnapps.losses import (
    LossHub,
    LossInputs,
    LossTerm,
    Outputs,
    attention_map,
    attention_map_distance,
    get_loss,
    losses,
    squared_hinge,
)


def test_squared_hinge_is_the_formula_and_so_is_its_gradient():
    logits = torch.tensor([[2.0, -0.5, 0.0], [1.0, 0.5, -3.0]], requires_grad=True)
    labels = torch.tensor([0, 1])
    loss = squared_hinge(logits, labels)
    # margins 1 - t y: (-1, 0.5, 1) and (2, 0.5, -2)
    assert float(loss.detach()) == pytest.approx((0 + 0.25 + 1 + 4 + 0.25 + 0) / 6)
    loss.backward()
    expected = torch.tensor([[0.0, 2 * 0.5, 2 * 1.0], [2 * 2.0, -2 * 0.5, 0.0]]) / 6
    assert torch.allclose(logits.grad, expected)


def test_squared_hinge_agrees_with_torch():
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 5), torch.randint(0, 5, (7,))
    targets = torch.full((7, 5), -1.0)
    targets[torch.arange(7), labels] = 1.0
    hinge = torch.nn.functional.hinge_embedding_loss(targets * logits, -torch.ones(7, 5), reduction="none")
    assert float(squared_hinge(logits, labels)) == pytest.approx(float(hinge.square().mean()), rel=1e-6)


@pytest.mark.parametrize(
    "labels", [torch.zeros(3, dtype=torch.long), torch.zeros(2), torch.zeros(2, 5), torch.zeros(2, 1, dtype=torch.long)]
)
def test_squared_hinge_reads_class_numbers_only(labels):
    with pytest.raises(UsageError, match="expected"):
        squared_hinge(torch.zeros(2, 5), labels)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_an_attention_map_is_a_unit_vector_of_energies(batch, channels, height, width):
    torch.manual_seed(batch * 31 + channels)
    x = torch.randn(batch, channels, height, width, dtype=torch.float64)
    found = attention_map(x)
    for i in range(batch):
        energy = torch.tensor([[(x[i, :, r, c] ** 2).mean() for c in range(width)] for r in range(height)]).flatten()
        assert torch.allclose(found[i], energy.to(found.dtype) / energy.to(found.dtype).norm(), rtol=1e-6)


def test_the_distance_of_attention_maps():
    x = torch.zeros(2, 1, 1, 2)
    x[:, 0, 0, 0] = 3.0  # map (1, 0)
    y = torch.zeros(2, 4, 1, 2)
    y[0, :, 0, 1] = 5.0  # map (0, 1)
    y[1, :, 0, 0] = 2.0  # map (1, 0)
    # distances sqrt(2) and 0, so the mean is sqrt(2) / 2 in each of two stages
    assert float(attention_map_distance([x, x], [y, y])) == pytest.approx(2**0.5)
    assert float(attention_map_distance([x], [7 * x])) == 0.0


def test_equal_maps_and_dead_maps_have_finite_gradients():
    for student in (torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)):
        student.requires_grad_()
        attention_map_distance([student], [student.detach().clone()]).backward()
        assert bool(torch.isfinite(student.grad).all())


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ([], [], "at least one"),
        ([torch.ones(1, 1, 2, 2)], [torch.ones(1, 1, 2, 2)] * 2, "the student has 1 stages and the teacher 2"),
        ([torch.ones(1, 1, 2, 2)], [torch.ones(1, 1, 4, 2)], "in stage 1 the student has"),
        ([torch.ones(1, 2)], [torch.ones(1, 2)], "need features"),
    ],
)
def test_maps_that_cannot_be_compared(student, teacher, message):
    with pytest.raises(UsageError, match=message):
        attention_map_distance(student, teacher)


# In the hub


def inputs(labels: torch.Tensor | None = None, taps: bool = False) -> LossInputs:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    stages = {"stages": [torch.randn(4, 2, 3, 3)]} if taps else {}
    labels = torch.tensor([0, 1, 2, 0]) if labels is None else labels
    return LossInputs(Outputs(student, stages), Outputs(teacher, stages), labels)


def test_label_smoothing_is_an_option_of_the_task():
    given = inputs()
    found, _ = LossHub([LossTerm("task", options={"label_smoothing": 0.3})])(given)
    targets = 0.7 * torch.nn.functional.one_hot(given.labels, 3) + 0.1
    expected = -(targets * given.student.logits.log_softmax(1)).sum(1).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_the_task_reads_shares_of_classes():
    shares = torch.tensor([[0.5, 0.5, 0], [1, 0, 0], [0, 0.25, 0.75], [0.2, 0.3, 0.5]])
    given = inputs(shares)
    expected = -(shares * given.student.logits.log_softmax(1)).sum(1).mean()
    assert float(LossHub([LossTerm("task")])(given)[0]) == pytest.approx(float(expected), rel=1e-6)


def test_soft_cross_entropy_has_the_reduction_of_reactnet_and_a_temperature():
    given = inputs()
    rows = -(given.teacher.logits / 2).softmax(1) * (given.student.logits / 2).log_softmax(1)
    term = LossTerm("soft_cross_entropy", options={"reduction": "batch", "temperature": 2.0})
    assert float(term(given)) == pytest.approx(float(rows.sum(1).mean()), rel=1e-6)
    plain = LossTerm("soft_cross_entropy", options={"temperature": 2.0})
    assert float(plain(given)) == pytest.approx(float(rows.mean()), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("task", {"label_smothing": 0.1}, r"options of 'task': unknown key 'label_smothing'; the nearest"),
        ("task", {"label_smoothing": 1.0}, r"key 'label_smoothing' is 1\.0"),
        ("soft_cross_entropy", {"reduction": "sum"}, r"key 'reduction' is 'sum'"),
        ("squared_hinge", {"margin": 2}, r"'squared_hinge' has no options, so 'margin' cannot be set"),
    ],
)
def test_options_that_a_loss_does_not_have(name, options, message):
    with pytest.raises(UsageError, match=message):
        LossTerm(name, options=options)


def test_the_losses_are_known_with_what_they_read():
    assert get_loss("attention_map").taps == ("stages",)
    assert get_loss("attention_map").needs_teacher
    assert not get_loss("squared_hinge").soft_labels
    assert [loss.name for loss in losses() if not loss.soft_labels] == ["squared_hinge"]
    assert float(LossTerm("attention_map")(inputs(taps=True))) == 0.0
    with pytest.raises(UsageError, match="needs the tap 'stages' of the student"):
        LossTerm("attention_map")(inputs())


def test_squared_hinge_needs_labels():
    with pytest.raises(UsageError, match="needs labels"):
        LossTerm("squared_hinge")(LossInputs(Outputs(torch.zeros(2, 3))))

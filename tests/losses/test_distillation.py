from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from torch import Tensor

from bnnapps.errors import UsageError
from bnnapps.losses import (
    attention_scores,
    direction_matching,
    hidden_mse,
    logit_mse,
    relation,
    score_mse,
    soft_cross_entropy,
    without_padding,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 6), st.integers(2, 5), st.sampled_from([0.5, 1.0, 4.0]))
@settings(max_examples=25, deadline=None)
def test_soft_cross_entropy_is_the_sum_over_classes_by_numpy(rows: int, classes: int, temperature: float) -> None:
    student, teacher = normal(rows, classes), normal(rows, classes, seed=1)
    terms = -softmax(teacher.numpy() / temperature, axis=-1) * log_softmax(student.numpy() / temperature, axis=-1)
    over_batch = soft_cross_entropy(student, teacher, temperature, "batch")
    over_both = soft_cross_entropy(student, teacher, temperature)
    assert float(over_batch) == pytest.approx(terms.sum() / rows)
    assert float(over_both) == pytest.approx(terms.sum() / rows / classes)


def test_soft_cross_entropy_gradient_is_the_difference_of_probabilities() -> None:
    student, teacher = normal(3, 4).requires_grad_(), normal(3, 4, seed=1)
    soft_cross_entropy(student, teacher, 2.0, "batch").backward()
    expected = (torch.softmax(student / 2, -1) - torch.softmax(teacher / 2, -1)) / 2 / 3
    torch.testing.assert_close(student.grad, expected.detach())


def test_soft_cross_entropy_of_tokens_averages_over_batch_and_length() -> None:
    student, teacher = normal(2, 5, 3), normal(2, 5, 3, seed=1)
    flat = soft_cross_entropy(student.view(10, 3), teacher.view(10, 3), reduction="batch")
    torch.testing.assert_close(soft_cross_entropy(student, teacher, reduction="batch"), flat)


def test_soft_cross_entropy_of_one_logit_is_zero() -> None:
    assert float(soft_cross_entropy(normal(4, 1), normal(4, 1, seed=1))) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2, 3), torch.ones(2, 2)), r"\(2, 3\).*\(2, 2\)"),
        ((torch.ones(2, 3), torch.ones(2, 3), 0.0), "temperature is 0.0"),
        ((torch.ones(2, 3), torch.ones(2, 3), 1.0, "sum"), "'sum'"),
    ],
)
def test_soft_cross_entropy_says_what_does_not_fit(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        soft_cross_entropy(*arguments)  # type: ignore[arg-type]


def test_squared_errors_by_numpy() -> None:
    student, teacher = [normal(2, 3, 4), normal(2, 3, 4, seed=1)], [normal(2, 3, 4, seed=2), normal(2, 3, 4, seed=3)]
    expected = sum(np.mean((s.numpy() - t.numpy()) ** 2) for s, t in zip(student, teacher, strict=True))
    assert float(hidden_mse(student, teacher)) == pytest.approx(expected)
    assert float(logit_mse(student[0], teacher[0])) == pytest.approx(
        np.mean((student[0].numpy() - teacher[0].numpy()) ** 2)
    )


def test_hidden_states_must_pair_up() -> None:
    with pytest.raises(UsageError, match="student has 2 and the teacher 1"):
        hidden_mse([normal(1, 2), normal(1, 2)], [normal(1, 2)])
    with pytest.raises(UsageError, match="at least one"):
        hidden_mse([], [])
    with pytest.raises(UsageError, match=r"\(1, 2\).*\(2, 1\)"):
        hidden_mse([normal(1, 2)], [normal(2, 1)])


def test_direction_matching_by_numpy_over_the_whole_batch() -> None:
    student, teacher = normal(3, 2, 4), normal(3, 2, 4, seed=1)
    x, y = student.numpy(), teacher.numpy()
    expected = np.linalg.norm((x / np.linalg.norm(x) - y / np.linalg.norm(y)).ravel())
    assert float(direction_matching(student, teacher)) == pytest.approx(expected)
    # The norm is one for the whole tensor, not one for each sequence.
    per_sequence = sum(np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)) for a, b in zip(x, y, strict=True))
    assert expected != pytest.approx(per_sequence)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_direction_matching_ignores_scale(a: float, b: float, size: int) -> None:
    x, y = normal(size, 3), normal(size, 3, seed=1)
    torch.testing.assert_close(direction_matching(a * x, b * y), direction_matching(x, y))
    assert float(direction_matching(x, a * x)) == pytest.approx(0, abs=1e-12)
    assert float(direction_matching(x, -a * x)) == pytest.approx(2)


def test_direction_matching_sums_over_layers() -> None:
    x, y = [normal(2, 3), normal(2, 3, seed=1)], [normal(2, 3, seed=2), normal(2, 3, seed=3)]
    torch.testing.assert_close(
        direction_matching(x, y), direction_matching(x[0], y[0]) + direction_matching(x[1], y[1])
    )


def test_direction_matching_gradient_by_finite_differences() -> None:
    x, y = normal(2, 3).requires_grad_(), normal(2, 3, seed=1)
    assert torch.autograd.gradcheck(lambda v: direction_matching(v, y), x)


@pytest.mark.parametrize("student_zero", [True, False])
@pytest.mark.parametrize("teacher_zero", [True, False])
def test_direction_matching_of_zeros_is_finite(student_zero: bool, teacher_zero: bool) -> None:
    x = (normal(2, 3) * (not student_zero)).float().requires_grad_()
    y = (normal(2, 3) * (not teacher_zero)).float()
    loss = direction_matching(x, y)
    loss.backward()
    assert loss.item() == pytest.approx(float(student_zero != teacher_zero))
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert float(x.grad.abs().max()) <= 1


def test_direction_matching_of_large_half_precision_numbers() -> None:
    x = torch.full((4, 64), 300.0, dtype=torch.float16)  # the norm, 4800, and its square overflow float16 sums
    assert float(direction_matching(x, x)) == 0
    assert float(direction_matching(x, -x)) == pytest.approx(2)


def test_relation_by_numpy() -> None:
    batch, length, heads, size = 2, 3, 4, 5
    x = normal(batch, length, heads * size)
    split = x.numpy().reshape(batch, length, heads, size)
    expected = np.einsum("blhd,bmhd->bhlm", split, split) / math.sqrt(size)
    np.testing.assert_allclose(relation(x, heads).numpy(), expected)


def test_scores_by_numpy_with_other_lengths() -> None:
    query, key = normal(2, 3, 8), normal(2, 5, 8, seed=1)
    expected = np.einsum("blhd,bmhd->bhlm", query.numpy().reshape(2, 3, 2, 4), key.numpy().reshape(2, 5, 2, 4)) / 2
    np.testing.assert_allclose(attention_scores(query, key, 2).numpy(), expected)


@given(st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_padding_does_not_count(length: int, tokens: int) -> None:
    mask = (torch.arange(length) < tokens).expand(2, length)
    x = normal(2, length, 6)
    changed = torch.where(mask.unsqueeze(-1), x, normal(2, length, 6, seed=1))
    torch.testing.assert_close(relation(x, 2, mask), relation(changed, 2, mask))
    torch.testing.assert_close(relation(x, 2, mask.long()), relation(x, 2, mask))
    kept = min(tokens, length)
    assert torch.equal(relation(x, 2, mask)[:, :, :kept, :kept], relation(x, 2)[:, :, :kept, :kept])
    assert int(relation(x, 2, mask).count_nonzero()) == 2 * 2 * kept * kept


def test_padding_gets_no_gradient() -> None:
    x = normal(1, 4, 6).requires_grad_()
    mask = torch.tensor([[1, 1, 0, 0]])
    direction_matching(relation(x, 2, mask), relation(normal(1, 4, 6, seed=1), 2, mask)).backward()
    assert x.grad is not None
    assert int(x.grad[:, 2:].count_nonzero()) == 0
    assert int(x.grad[:, :2].count_nonzero()) == 12


def test_score_error_divides_by_all_entries() -> None:
    student, teacher = [normal(1, 2, 4, 4)], [normal(1, 2, 4, 4, seed=1)]
    mask = torch.tensor([[1, 1, 1, 0]])
    difference = (student[0] - teacher[0])[:, :, :3, :3].numpy()
    assert float(score_mse(student, teacher, mask)) == pytest.approx((difference**2).sum() / 32)
    assert float(score_mse(student, teacher)) == pytest.approx(float(((student[0] - teacher[0]) ** 2).mean()))


def test_score_error_takes_infinities_at_padding() -> None:
    student = torch.zeros(1, 1, 2, 2)
    student[..., 1] = -math.inf
    assert float(score_mse([student], [torch.ones(1, 1, 2, 2)], torch.tensor([[1, 0]]))) == pytest.approx(1 / 4)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 7)])
def test_projections_that_do_not_split(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="split into 2 heads"):
        relation(torch.ones(shape), 2)


def test_masks_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match=r"\(2, 4\).*\(2, 1, 3, 3\)"):
        without_padding(torch.ones(2, 1, 3, 3), torch.ones(2, 4))


def test_scores_of_fewer_heads_meet_the_mean_over_the_heads() -> None:
    student, teacher = torch.randn(2, 2, 3, 3), torch.randn(2, 4, 3, 3)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    expected = score_mse([student.mean(1, keepdim=True)], [teacher.mean(1, keepdim=True)], mask)
    torch.testing.assert_close(score_mse([student], [teacher], mask), expected)
    with pytest.raises(UsageError, match="attention scores: the student has shape"):
        score_mse([student], [torch.randn(2, 4, 5, 5)])

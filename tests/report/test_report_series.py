from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_files import STUDENT, TEACHER, student_events, teacher_events

from bnnapps.report.series import curves, smooth, thinned


def test_curves_of_a_stage() -> None:
    found = curves(teacher_events() + student_events(), "student", epochs=5)
    assert len(found.total) == 100
    assert found.total.steps == tuple(range(10, 1001, 10))
    assert [s.name for s in found.terms] == ["direction_matching", "logits", "task"]
    weighted = np.array([1, 1, 0.5]) @ np.array([s.values for s in found.terms])
    np.testing.assert_allclose(found.total.values, weighted)
    assert found.steps == 1000
    assert found.rates == ()


def test_evaluations_after_the_training_are_no_further_points() -> None:
    (metric,) = curves(student_events(), "student", epochs=5).metrics
    assert metric.name == "accuracy"
    assert metric.steps == (200, 400, 600, 800, 1000)
    assert metric.values == tuple(STUDENT)


def test_stage_that_ends_within_an_epoch_keeps_the_evaluation_of_its_last_weights() -> None:
    events = [
        {"stage": "s", "step": 11, "epoch": 0, "dev/accuracy": 0.5},
        {"stage": "s", "step": 20, "epoch": 2, "dev/accuracy": 0.4},  # the last weights
        {"stage": "s", "step": 20, "epoch": 2, "dev/accuracy": 0.5},  # the best ones
    ]
    (metric,) = curves(events, "s", epochs=2).metrics
    assert (metric.steps, metric.values) == ((12, 20), (0.5, 0.4))


def test_one_step_an_epoch() -> None:
    events = [{"stage": "s", "step": i, "epoch": i, "dev/f1": i / 10} for i in range(4)]
    events += [{"stage": "s", "step": 4, "epoch": 4, "dev/f1": v} for v in (0.3, 0.9)]
    (metric,) = curves(events, "s", epochs=4).metrics
    assert (metric.steps, metric.values) == ((1, 2, 3, 4), (0.0, 0.1, 0.2, 0.3))


def test_other_stages_and_broken_events_are_left_out() -> None:
    good = {"stage": "s", "step": 9, "epoch": 0, "loss": 1.5, "lr": 1e-3}
    broken = [
        {"stage": "t", "step": 9, "loss": 7.0},
        {"step": 9, "loss": 7.0},
        {"stage": "s", "loss": 7.0},
        {"stage": "s", "step": 19, "loss": float("nan")},
        {"stage": "s", "step": 19, "loss": "much", "note": True},
    ]
    found = curves([*broken, good], "s")
    assert (found.total.steps, found.total.values) == ((10,), (1.5,))
    assert [s.values for s in found.rates] == [(1e-3,)]
    assert not found.terms
    assert not found.metrics


def test_events_that_come_again_after_a_resume_count_once() -> None:
    events = [{"stage": "s", "step": s, "epoch": 0, "loss": v} for s, v in ((9, 3.0), (19, 2.0), (9, 2.5))]
    found = curves(events, "s")
    assert (found.total.steps, found.total.values) == ((10, 20), (2.5, 2.0))


def test_nothing_logged() -> None:
    found = curves(teacher_events(), "student")
    assert found.empty
    assert found.steps == 0
    assert not curves([{"stage": "s", "step": 0, "dev/a": TEACHER[0]}], "s").empty


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(1, 30))
def test_smooth_is_the_mean_of_the_window(values: list[float], width: int) -> None:
    half = width // 2
    expected = [np.mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    np.testing.assert_allclose(smooth(values, width), expected, atol=1e-8)


def test_smooth_of_nothing() -> None:
    assert smooth([], 5) == []


@given(st.integers(0, 5000), st.integers(2, 300))
def test_thinned_is_spread_evenly_from_first_to_last(count: int, limit: int) -> None:
    found = thinned(count, limit)
    assert len(found) == len(set(found)) == min(count, limit)
    assert found == sorted(found)
    if count:
        assert (found[0], found[-1]) == (0, count - 1)
        gaps = np.diff(found)
        assert gaps.size == 0 or gaps.max() - gaps.min() <= 2


@pytest.mark.parametrize("count", [1, 40, 41])
def test_thinned_keeps_all_where_there_are_few(count: int) -> None:
    assert thinned(count, 41) == list(range(count))

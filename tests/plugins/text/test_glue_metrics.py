from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from torch import Tensor

from bnnapps.errors import TrainingError, UsageError
from bnnapps.plugins.text.glue import TASKS
from bnnapps.plugins.text.metrics import compute, primary


def logits_for(classes: list[int], count: int) -> Tensor:
    """Logits whose largest entry is at the given class, with noise elsewhere."""
    noise = torch.rand(len(classes), count)
    noise[torch.arange(len(classes)), torch.tensor(classes)] += 1.0
    return noise


LABEL_PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@given(pairs=LABEL_PAIRS)
def test_binary_metrics_match_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    predicted, actual = (list(column) for column in zip(*pairs, strict=True))
    labels = torch.tensor(actual)
    mrpc = compute("mrpc", logits_for(predicted, 2), labels)
    assert set(mrpc) == {"accuracy", "f1"}
    assert mrpc["accuracy"] == pytest.approx(accuracy_score(actual, predicted), abs=1e-6)
    assert mrpc["f1"] == pytest.approx(f1_score(actual, predicted, zero_division=0.0), abs=1e-6)
    cola = compute("cola", logits_for(predicted, 2), labels)
    assert set(cola) == {"matthews_correlation"}
    with np.errstate(all="ignore"):
        expected = matthews_corrcoef(actual, predicted) if len(set(actual) | set(predicted)) > 1 else 0.0
    assert cola["matthews_correlation"] == pytest.approx(expected, abs=1e-6)


@given(pairs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_three_class_accuracy_matches_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    predicted, actual = (list(column) for column in zip(*pairs, strict=True))
    values = compute(TASKS["mnli"], logits_for(predicted, 3), torch.tensor(actual))
    assert values == {"accuracy": pytest.approx(accuracy_score(actual, predicted), abs=1e-6)}


@given(
    pairs=st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 20)), min_size=2, max_size=40),
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e4]),
    offset=st.sampled_from([0.0, 2.5, -100.0]),
    column=st.booleans(),
)
def test_correlations_match_scipy(pairs: list[tuple[int, int]], scale: float, offset: float, column: bool) -> None:
    raw, quarters = (np.array(values, dtype=np.float64) for values in zip(*pairs, strict=True))
    assume(len(set(raw)) > 1 and len(set(quarters)) > 1)
    predicted = torch.tensor(raw * scale + offset)
    labels = torch.tensor(quarters / 4)
    values = compute("stsb", predicted[:, None] if column else predicted, labels)
    pearson = float(pearsonr(raw, quarters).statistic)
    spearman = float(spearmanr(predicted.numpy(), quarters).statistic)
    assert values["pearson"] == pytest.approx(pearson, abs=1e-5)
    assert values["spearman"] == pytest.approx(spearman, abs=1e-5)
    assert values["pearson_spearman"] == pytest.approx((pearson + spearman) / 2, abs=1e-5)
    assert list(values) == ["pearson", "spearman", "pearson_spearman"]


def test_float32_predictions_with_little_spread_keep_their_correlation() -> None:
    labels = torch.linspace(0, 5, 200)
    predicted = 2.5 + 1e-5 * labels
    assert compute("stsb", predicted, labels)["pearson"] == pytest.approx(
        pearsonr(predicted.double().numpy(), labels.numpy()).statistic, abs=1e-6
    )


@pytest.mark.parametrize("constant", [0, 1])
def test_a_constant_classifier_has_no_matthews_correlation(constant: int) -> None:
    labels = torch.tensor([0, 1, 1, 0, 1])
    assert compute("cola", logits_for([constant] * 5, 2), labels) == {"matthews_correlation": 0.0}
    assert compute("cola", logits_for([constant] * 5, 2), torch.full((5,), constant)) == {"matthews_correlation": 0.0}


def test_constant_scores_have_no_correlation() -> None:
    labels = torch.tensor([0.0, 2.5, 5.0])
    zero = {"pearson": 0.0, "spearman": 0.0, "pearson_spearman": 0.0}
    assert compute("stsb", torch.full((3, 1), 2.5), labels) == zero
    assert compute("stsb", labels, torch.full((3,), 2.5)) == zero
    assert compute("stsb", torch.tensor([1.0]), torch.tensor([1.0])) == zero


def test_an_inverted_classifier_and_score_are_minus_one() -> None:
    labels = torch.tensor([0, 1, 1, 0])
    assert compute("cola", logits_for([1, 0, 0, 1], 2), labels)["matthews_correlation"] == pytest.approx(-1.0)
    assert compute("stsb", -labels.float(), labels.float())["pearson_spearman"] == pytest.approx(-1.0)


def test_primary_metrics_are_those_of_the_papers_tables() -> None:
    assert {name: primary(name) for name in TASKS} == {
        "cola": "matthews_correlation",
        "sst2": "accuracy",
        "mrpc": "accuracy",
        "qqp": "accuracy",
        "stsb": "pearson_spearman",
        "mnli": "accuracy",
        "qnli": "accuracy",
        "rte": "accuracy",
        "wnli": "accuracy",
    }
    for name, task in TASKS.items():
        labels = torch.arange(8) % max(2, task.num_labels)
        values = compute(name, torch.randn(8, task.num_labels), labels)
        assert tuple(values) == task.metrics
        assert math.isfinite(values[primary(name)])


def test_half_precision_and_gradients_are_accepted() -> None:
    labels = torch.tensor([0, 1, 1])
    logits = logits_for([0, 1, 1], 2).to(torch.bfloat16).requires_grad_()
    assert compute("sst2", logits, labels) == {"accuracy": 1.0}
    assert compute("stsb", labels.to(torch.bfloat16), labels.float())["pearson"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("task", "predictions", "labels"),
    [
        ("sst2", torch.zeros(3, 3), torch.zeros(3, dtype=torch.long)),
        ("sst2", torch.zeros(3), torch.zeros(3, dtype=torch.long)),
        ("sst2", torch.zeros(2, 2), torch.zeros(3, dtype=torch.long)),
        ("stsb", torch.zeros(3, 2), torch.zeros(3)),
        ("stsb", torch.zeros(3, 3), torch.zeros(3, 3)),
        ("rte", torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(task: str, predictions: Tensor, labels: Tensor) -> None:
    with pytest.raises(ValueError, match=f"{task}: predictions .* do not fit"):
        compute(task, predictions, labels)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_predictions_that_are_not_finite_say_that_training_diverged(value: float) -> None:
    logits = torch.zeros(4, 2)
    logits[2, 1] = value
    with pytest.raises(TrainingError, match="rte: the model's predictions are not finite, so training has diverged"):
        compute("rte", logits, torch.tensor([0, 1, 0, 1]))


def test_an_unknown_task_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown GLUE task 'colo'"):
        primary("colo")

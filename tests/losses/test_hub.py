from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.errors import UsageError
from bnnapps.losses import (
    Loss,
    LossHub,
    LossInputs,
    LossTerm,
    Outputs,
    attention_scores,
    direction_matching,
    get_loss,
    hidden_mse,
    losses,
    register_loss,
    relation,
    score_mse,
    soft_cross_entropy,
)

NAMES = [
    "attention_map",
    "attention_score_mse",
    "direction_matching",
    "direction_matching_hidden",
    "direction_matching_key",
    "direction_matching_query",
    "direction_matching_value",
    "hidden_mse",
    "layer_amplitude",
    "layer_angle",
    "layer_weight",
    "logit_mse",
    "logits",
    "soft_cross_entropy",
    "squared_hinge",
    "task",
    "weight_modes",
    "weight_reconstruction",
]


def outputs(seed: int, classes: int = 3, layers: int = 2) -> Outputs:
    generator = torch.Generator().manual_seed(seed)

    def tensors(count: int) -> list[Tensor]:
        return [torch.randn(4, 5, 8, generator=generator).requires_grad_() for _ in range(count)]

    taps = {name: tensors(layers) for name in ("query", "key", "value")} | {"hidden": tensors(layers + 1)}
    return Outputs(torch.randn(4, classes, generator=generator).requires_grad_(), taps, heads=2)


@pytest.fixture
def inputs() -> LossInputs:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]])
    return LossInputs(outputs(0), outputs(1), torch.tensor([0, 2, 1, 0]), mask)


def value(name: str, inputs: LossInputs) -> Tensor:
    return LossHub([LossTerm(name)])(inputs)[0]


def test_names() -> None:
    # Plugins register more.
    assert [loss.name for loss in losses() if loss.function.__module__.startswith("bnnapps.losses.")] == NAMES
    assert all(loss.describes for loss in losses())


def test_unknown_names_and_names_that_are_taken() -> None:
    with pytest.raises(UsageError, match=r"recipe\.yaml: unknown loss 'hidden_mes'; the nearest are 'hidden_mse'"):
        get_loss("hidden_mes", "recipe.yaml")
    with pytest.raises(UsageError, match="unknown loss 'directions'"):
        LossTerm("directions")
    with pytest.raises(ValueError, match="registered already"):
        register_loss(Loss("task", lambda inputs: torch.zeros(()), ""))


def test_each_term_is_its_formula(inputs: LossInputs) -> None:
    student, teacher = inputs.student, inputs.teacher
    assert teacher is not None
    assert student.logits is not None
    assert teacher.logits is not None
    soft = soft_cross_entropy(student.logits, teacher.logits)
    directions = {
        tap: direction_matching(
            [relation(x, 2, inputs.mask) for x in student.taps[tap]],
            [relation(x, 2, inputs.mask) for x in teacher.taps[tap]],
        )
        for tap in ("query", "key", "value")
    }
    directions["hidden"] = direction_matching(student.taps["hidden"], teacher.taps["hidden"])
    scores = [
        [attention_scores(q, k, 2) for q, k in zip(o.taps["query"], o.taps["key"], strict=True)]
        for o in (student, teacher)
    ]
    expected = {
        "task": F.cross_entropy(student.logits, inputs.labels),  # type: ignore[arg-type]
        "soft_cross_entropy": soft,
        "logits": soft,
        "logit_mse": F.mse_loss(student.logits, teacher.logits),
        "hidden_mse": hidden_mse(student.taps["hidden"], teacher.taps["hidden"]),
        "attention_score_mse": score_mse(*scores, inputs.mask),
        "direction_matching": sum(directions.values()),
        **{f"direction_matching_{tap}": d for tap, d in directions.items()},
    }
    layers = ("layer_amplitude", "layer_angle", "layer_weight", "weight_modes", "weight_reconstruction")
    elsewhere = ("attention_map", "squared_hinge", *layers)
    assert sorted(expected) == [n for n in NAMES if n not in elsewhere]
    for name, tensor in expected.items():
        torch.testing.assert_close(value(name, inputs), tensor, msg=name)


def test_regression(inputs: LossInputs) -> None:
    inputs = dataclasses.replace(
        inputs, student=outputs(0, 1), teacher=outputs(1, 1), labels=torch.tensor([0, 2, 1, 5]), task="regression"
    )
    student, teacher = inputs.student.logits, inputs.teacher.logits  # type: ignore[union-attr]
    assert student is not None
    assert teacher is not None
    torch.testing.assert_close(value("task", inputs), F.mse_loss(student[:, 0], torch.tensor([0.0, 2, 1, 5])))
    torch.testing.assert_close(value("logits", inputs), F.mse_loss(student, teacher))
    with pytest.raises(UsageError, match="always 0: use 'logits'"):
        value("soft_cross_entropy", inputs)
    with pytest.raises(UsageError, match="a regression has one logit"):
        value("task", dataclasses.replace(inputs, student=outputs(0, 3)))


def test_labels_of_tokens() -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1, 2, -100], [1, -100, -100, -100]])
    expected = -torch.stack(
        [torch.log_softmax(logits, -1)[i, j, labels[i, j]] for i, j in [(0, 0), (0, 1), (0, 2), (1, 0)]]
    )
    torch.testing.assert_close(value("task", LossInputs(Outputs(logits), labels=labels)), expected.mean())


def test_scores_that_are_tapped_come_before_query_times_key(inputs: LossInputs) -> None:
    scores = [torch.full((4, 2, 5, 5), float(i)) for i in range(2)]
    student = Outputs(taps={**inputs.student.taps, "scores": scores}, heads=2)
    teacher = Outputs(taps={"scores": [torch.zeros(4, 2, 5, 5)] * 2})
    result = value("attention_score_mse", LossInputs(student, teacher))
    assert float(result) == pytest.approx(0.0 + 1.0)


def test_total_is_the_weighted_sum_and_parts_are_not_weighted(inputs: LossInputs) -> None:
    hub = LossHub(
        [LossTerm("task", 0.5), LossTerm("hidden_mse", 2.0), LossTerm("extra", 3.0, lambda i: i.student.logits.sum())]
    )  # type: ignore[union-attr]
    total, parts = hub(inputs)
    assert list(parts) == ["task", "hidden_mse", "extra"]
    torch.testing.assert_close(total, 0.5 * parts["task"] + 2 * parts["hidden_mse"] + 3 * parts["extra"])
    torch.testing.assert_close(parts["hidden_mse"], value("hidden_mse", inputs))
    assert total.requires_grad
    assert not any(part.requires_grad for part in parts.values())


def test_total_of_mixed_precision(inputs: LossInputs) -> None:
    half = dataclasses.replace(inputs.student, logits=inputs.student.logits.bfloat16())  # type: ignore[union-attr]
    total, _ = LossHub([LossTerm("task"), LossTerm("hidden_mse")])(dataclasses.replace(inputs, student=half))
    assert total.dtype == torch.float32


def test_what_a_hub_reads() -> None:
    hub = LossHub([LossTerm("task"), LossTerm("direction_matching_query"), LossTerm("hidden_mse")])
    assert hub.needs_teacher
    assert hub.taps == ("hidden", "query")
    assert not LossHub([LossTerm("task")]).needs_teacher
    assert LossHub([LossTerm("direction_matching")]).taps == ("hidden", "key", "query", "value")


def test_terms_count_from_start_to_stop(inputs: LossInputs) -> None:
    hub = LossHub(
        [LossTerm("hidden_mse", stop=0.5), LossTerm("logits", start=0.5), LossTerm("task", start=0.25, stop=0.5)]
    )
    seen = {p: list(hub(dataclasses.replace(inputs, progress=p))[1]) for p in (0.0, 0.25, 0.5, 1.0)}
    assert seen == {0.0: ["hidden_mse"], 0.25: ["hidden_mse", "task"], 0.5: ["logits"], 1.0: ["logits"]}


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "no loss counts when 0%"),
        ([("task", 0.0, 0.5), ("logits", 0.6, 1.0)], "no loss counts when 50%"),
        ([("task", 0.25, 1.0)], "no loss counts when 0%"),
        ([("task", 0.0, 0.75)], "no loss counts when 75%"),
        ([("task", 0.0, 1.0), ("task", 0.0, 1.0)], "'task' is listed twice"),
    ],
)
def test_hubs_that_leave_a_gap(terms: list[tuple[str, float, float]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LossHub([LossTerm(name, start=start, stop=stop) for name, start, stop in terms])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "weight of 'task' is -1.0"),
        ({"weight": float("nan")}, "weight of 'task' is nan"),
        ({"start": 0.5, "stop": 0.5}, "from 0.5 to 0.5"),
        ({"stop": 1.5}, "from 0.0 to 1.5"),
        ({"start": -0.5}, "from -0.5 to 1.0"),
    ],
)
def test_terms_that_make_no_sense(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LossTerm("task", **arguments)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("task", "squared_hinge") and "weight_" not in n])
def test_a_missing_teacher_is_named(name: str, inputs: LossInputs) -> None:
    with pytest.raises(UsageError, match=f"the loss '{name}' compares with a teacher"):
        value(name, dataclasses.replace(inputs, teacher=None))


@pytest.mark.parametrize("name", [n for n in NAMES if get_loss(n).taps and n != "attention_map"])
def test_a_missing_tap_is_named(name: str, inputs: LossInputs) -> None:
    bare = dataclasses.replace(inputs.student, taps={"queries": inputs.student.taps["query"]})
    with pytest.raises(UsageError, match=rf"the loss '{name}' needs the tap '\w+' of the student; it has 'queries'"):
        value(name, dataclasses.replace(inputs, student=bare))
    with pytest.raises(UsageError, match=rf"the loss '{name}' needs the tap '\w+' of the teacher; it has no taps"):
        value(name, dataclasses.replace(inputs, teacher=Outputs(heads=2)))


def test_missing_labels_logits_and_heads_are_named(inputs: LossInputs) -> None:
    with pytest.raises(UsageError, match="'task' needs labels"):
        value("task", dataclasses.replace(inputs, labels=None))
    with pytest.raises(UsageError, match="'logits' needs the logits of the teacher"):
        value("logits", dataclasses.replace(inputs, teacher=Outputs()))
    student = dataclasses.replace(inputs.student, heads=None)
    with pytest.raises(UsageError, match="'direction_matching_key' needs the number of attention heads of the student"):
        value("direction_matching_key", dataclasses.replace(inputs, student=student))


def test_progress_out_of_range(inputs: LossInputs) -> None:
    with pytest.raises(UsageError, match=r"progress is 1\.5"):
        LossHub([LossTerm("task")])(dataclasses.replace(inputs, progress=1.5))

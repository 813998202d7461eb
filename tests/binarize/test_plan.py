from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rich.table import Table
from torch import Tensor, nn
from zoo import CASES, ZOO, build, rules

import bnnapps
from bnnapps.binarize import Plan, Rule
from bnnapps.binarize.table import describe, plan_table
from bnnapps.methods import get_method
from bnnapps.nn.spec import override


def everything(model: nn.Module) -> tuple[Any, ...]:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    modules = [(n, type(m), m.training, sorted(vars(m))) for n, m in model.named_modules(remove_duplicate=False)]
    tensors = {n: (id(t), t._version, t.clone()) for n, t in [*model.named_parameters(), *model.named_buffers()]}
    grads = {n: p.grad for n, p in model.named_parameters()}
    return hooks, modules, {n: (i, v) for n, (i, v, _) in tensors.items()}, grads, torch.get_rng_state().tolist()


@pytest.mark.parametrize(("method", "model"), CASES)
@pytest.mark.parametrize("examples", [False, True])
def test_plan_changes_nothing(method: str, model: str, examples: bool) -> None:
    net = build(model)
    net.train()
    list(net.modules())[-1].eval()
    given = ZOO[model].inputs() if examples or method == "xnorpp" else None  # which needs the sizes of outputs
    before, state = everything(net), copy.deepcopy(net.state_dict())
    bnnapps.plan(net, rules(method, model), example_inputs=given)
    assert everything(net) == before
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())


class Noisy(nn.Module):
    """Draws random numbers, updates statistics and drops units whenever it may."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.c(self.b(self.drop(self.norm(self.a(x + torch.rand_like(x))))))
        return result


def test_plan_runs_a_model_on_examples_without_a_trace() -> None:
    model = Noisy()
    model.norm.eval()
    given = torch.randn(3, 4)
    before, state, copy_of_given = everything(model), copy.deepcopy(model.state_dict()), given.clone()
    plan = bnnapps.plan(model, "bnn", example_inputs=given)
    assert plan.roles == "execution order on the example inputs"
    assert everything(model) == before
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(given, copy_of_given)


def test_plan_leaves_no_trace_when_the_model_fails_on_the_examples() -> None:
    model, wrong = Noisy(), torch.randn(3, 7)
    before = everything(model)
    with pytest.raises(RuntimeError):
        bnnapps.plan(model, "bnn", example_inputs=wrong)
    assert everything(model) == before
    with pytest.raises(TypeError, match="example_inputs is a str; expected a tensor, a tuple of positional arguments"):
        bnnapps.plan(model, "bnn", example_inputs="hello")
    assert everything(model) == before


@pytest.mark.parametrize(("method", "model"), CASES)
def test_a_plan_survives_json(method: str, model: str) -> None:
    plan = bnnapps.plan(build(model), rules(method, model), example_inputs=ZOO[model].inputs())
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert str(again) == str(plan)


def test_the_same_question_gives_the_same_plan() -> None:
    assert bnnapps.plan(build("images"), "xnor") == bnnapps.plan(build("images"), "xnor")
    assert bnnapps.plan(build("images"), "xnor") != bnnapps.plan(build("images"), "bnn")


def test_a_plan_can_be_applied_to_another_model_of_the_same_shape() -> None:
    plan = bnnapps.plan(build("images"), "xnor")
    x = ZOO["images"].inputs()
    found = bnnapps.apply_plan(build("images"), plan)(x)
    assert torch.equal(found, bnnapps.binarize(build("images"), "xnor")(x))


def cells(plan: Plan) -> dict[str, list[str]]:
    """The rows of the plan's table by what stands in their first column."""
    table = plan_table(plan).renderables[0]
    assert isinstance(table, Table)
    rows = zip(*([str(c) for c in column.cells] for column in table.columns), strict=True)
    return {first: rest for first, *rest in rows}


def test_the_table_says_what_becomes_of_each_layer() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    plan = bnnapps.plan(model, [Rule(types=["linear"], use="reactnet"), Rule(match="2", keep="too narrow")])
    assert cells(plan) == {
        "0": ["linear", "real", "", "keep_first: 1", "20"],
        "1": ["linear", "reactnet", "±1 α · ±1 shifted", "rule 1", "40"],
        "2": ["linear", "real", "", "too narrow", "72"],
        "3": ["linear", "real", "", "keep_last: 1", "18"],
    }
    text = str(plan)
    assert "Plan for Sequential" in text
    assert "1 layers become binary (40 parameters), 3 stay real." in text
    assert "First and last layers: definition order" in text
    assert "keep_first 1, keep_last 1." in text


def test_layers_that_repeat_share_a_row_and_count_together() -> None:
    model = build("bert")
    rows = cells(bnnapps.plan(model, "bibert"))
    query = model.get_submodule("bert.encoder.layer.0.attention.self.query")
    count = 2 * sum(p.numel() for p in query.parameters())
    assert rows["bert.encoder.layer.{0..1}.attention.self.query  ×2"][-1] == f"{count:,}"
    apart = cells(
        bnnapps.plan(model, {"method": "bibert", "rules": [{"match": "*.0.attention.self.query", "keep": "no"}]})
    )
    assert len(apart) == len(rows) + 1
    assert apart["bert.encoder.layer.0.attention.self.query"][1] == "real"


def test_the_root_has_a_row() -> None:
    plan = bnnapps.plan(nn.Linear(3, 3), [Rule(match="", use="bnn")])
    assert list(cells(plan)) == ["(the model itself)"]


DESCRIBED: list[tuple[str, str, dict[str, Any], str]] = [
    ("bibert", "attention", {}, "q ±1, k ±1, v ±1, a 0,1, no softmax"),
    ("naive", "attention", {"key": None}, "q ±1, k real, v ±1, a ±1, softmax"),
    (
        "bit",
        "attention",
        {"activation_bits": 2},
        "q 2 bits elastic, k 2 bits elastic, v 2 bits elastic, a 2 bits unsigned elastic, softmax",
    ),
    ("bit", "linear", {}, "±1 α of the layer · ±1 elastic shifted"),
    ("bit", "embedding", {}, "±1 α"),
    ("bit", "nonlinearity", {}, "relu"),
    ("binarybert", "linear", {}, "±1 α of the layer + ±1 α of the layer · 8 bits uniform"),
    ("binarybert_ternary", "embedding", {}, "0,±1 α"),
    ("bnn", "linear", {"weight": None}, "real · ±1"),
    ("bnn", "conv", {"pad_value": -1}, "±1 · ±1 · pad -1"),
    ("bnn", "conv", {"pad_value": 1, "activation": None}, "±1 · real · pad +1"),
    ("irnet", "conv", {}, "±1 2ⁿ · ±1"),
    ("xnor", "conv", {"activation.unsigned": True}, "±1 α · 0,1 K"),
]


@pytest.mark.parametrize(("method", "slot", "changes", "expected"), DESCRIBED)
def test_parts_in_a_few_words(method: str, slot: Any, changes: dict[str, Any], expected: str) -> None:
    assert describe(override(get_method(method).layers[slot], changes, "here")) == expected


def sequential(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), *layers, nn.Linear(4, 4))


def images(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, 1), *layers, nn.Conv2d(4, 4, 1))


ALWAYS_PLUS_ONE = "'{}': the input is never negative, so its sign is always +1"
# model, rules, layers that are warned of with and without example inputs
SIGNS: dict[str, tuple[Callable[[], nn.Module], Any, list[str], list[str]]] = {
    "ReLU": (lambda: sequential(nn.ReLU(), nn.Linear(4, 4)), "bnn", ["2"], ["2"]),
    "sigmoid": (lambda: sequential(nn.Sigmoid(), nn.Linear(4, 4)), "bnn", ["2"], ["2"]),
    "ReLU and dropout": (lambda: sequential(nn.ReLU(), nn.Dropout(), nn.Linear(4, 4)), "bnn", ["3"], ["3"]),
    "ReLU and pooling": (lambda: images(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1)), "bnn", ["3"], ["3"]),
    "ReLU and a norm": (
        lambda: sequential(nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 4)),
        "bnn",
        [],
        [],
    ),
    "a learned shift": (lambda: sequential(nn.ReLU(), nn.Linear(4, 4)), "reactnet", [], []),
    "unsigned codes": (
        lambda: sequential(nn.ReLU(), nn.Linear(4, 4)),
        [Rule(match="2", use={"method": "bnn", "activation.unsigned": True})],
        [],
        [],
    ),
    "eight bits are no sign": (
        lambda: sequential(nn.ReLU(), nn.Linear(4, 4)),
        [Rule(match="2", use="binarybert")],
        [],
        [],
    ),
    "a learned scale is still a sign": (
        lambda: sequential(nn.ReLU(), nn.Linear(4, 4)),
        [Rule(match="2", use={"method": "bnn", "activation.scale": "elastic"})],
        ["2"],
        ["2"],
    ),
    "kept layers are not meant": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)),
        "bnn",
        [],
        [],
    ),
    "nothing in front": (lambda: sequential(nn.Linear(4, 4)), "bnn", [], []),
    "tanh": (lambda: sequential(nn.Tanh(), nn.Linear(4, 4)), "bnn", [], []),
}


def beside_packing(plan: Plan) -> list[str]:
    return [line for line in plan.warnings if "multiple of 8" not in line]


@pytest.mark.parametrize("case", SIGNS)
@pytest.mark.parametrize("examples", [False, True])
def test_a_sign_that_is_always_plus_one_is_warned_of(case: str, examples: bool) -> None:
    make, rule, without, with_examples = SIGNS[case]
    model = make()
    shape = (8, 4, 6, 6) if isinstance(model[0], nn.Conv2d) else (8, 4)  # type: ignore[index]
    plan = bnnapps.plan(model, rule, example_inputs=torch.randn(shape) if examples else None)
    expected = with_examples if examples else without
    found = beside_packing(plan)
    assert len(found) == len(expected)
    for name, line in zip(expected, found, strict=True):
        assert ALWAYS_PLUS_ONE.format(name) in line
        assert "put a BatchNorm or a learned shift before it" in line
        assert f"Warning: {line}"[:60] in " ".join(str(plan).split())


def test_examples_show_what_the_definition_hides() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.c(self.b(torch.relu(self.a(x))))
            return result

    assert beside_packing(bnnapps.plan(Net(), "bnn")) == []
    (line,) = beside_packing(bnnapps.plan(Net(), "bnn", example_inputs=torch.randn(8, 4)))
    assert ALWAYS_PLUS_ONE.format("b") in line


def test_weight_only_and_activation_only_layers_are_warned_of() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(8)))
    rules = [
        Rule(match="[1-5]", use={"method": "bnn", "activation": None}),
        Rule(match="6", use={"method": "bnn", "weight": None}),
    ]
    plan = bnnapps.plan(model, rules)
    assert beside_packing(plan) == [
        "'1', '2', '3' and 2 more: binary weights but real activations, so no 1-bit arithmetic",
        "'6': binary activations but real weights, so no 1-bit arithmetic",
    ]
    assert beside_packing(bnnapps.plan(model, "bnn")) == []


def test_warnings_travel_with_the_plan() -> None:
    plan = bnnapps.plan(sequential(nn.ReLU(), nn.Linear(4, 4)), "bnn")
    assert Plan.from_dict(plan.to_dict()).warnings == plan.warnings != ()

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from zoo import build

import bnnapps
from bnnapps.binarize import Rule, RuleSet
from bnnapps.binarize.rules import as_rule, as_rule_set
from bnnapps.errors import BinarizeError


class MyLinear(nn.Linear):
    pass


def network() -> nn.Module:
    """Names: stem, layer1.0.conv1, layer1.0.conv2, layer1.1.conv1, layer1.1.conv2, layer2.down, head."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1, self.conv2 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

    model = nn.Module()
    model.stem = nn.Conv2d(3, 4, 3)
    model.layer1 = nn.Sequential(Block(), Block())
    model.layer2 = nn.Module()
    model.layer2.down = nn.Linear(4, 4)
    model.head = MyLinear(4, 2)
    return model


def use(**fields: Any) -> Rule:
    return Rule(use="bnn", **fields)


def keep(**fields: Any) -> Rule:
    return Rule(keep="stays", **fields)


STEM, HEAD, DOWN = "stem", "head", "layer2.down"
CONVS = [f"layer1.{i}.conv{j}" for i in (0, 1) for j in (1, 2)]
EVERY = [STEM, *CONVS, DOWN, HEAD]
# rules, keep_first, keep_last -> names that become binary
PRECEDENCE: dict[str, tuple[list[Rule], int, int, list[str]]] = {
    "all, first and last kept": ([use(types=["conv2d", "linear"])], 1, 1, [*CONVS, DOWN]),
    "all, nothing kept": ([use(types=["conv2d", "linear"])], 0, 0, EVERY),
    "two first, two last": ([use(types=["conv2d", "linear"])], 2, 2, CONVS[1:]),
    "exact name beats keep_first": ([use(match="stem"), use(types=["linear"])], 1, 1, [STEM, DOWN]),
    "exact name beats keep_last": ([use(match="head")], 1, 1, [HEAD]),
    "exact name beats a later rule": ([use(match=DOWN), keep(types=["linear"])], 0, 0, [DOWN]),
    "exact keep beats a later use": ([keep(match=DOWN), use(types=["linear"])], 0, 0, [HEAD]),
    "the last exact rule wins": ([use(match=DOWN), keep(match=DOWN), use(match=HEAD)], 0, 0, [HEAD]),
    "the last matching rule wins": ([use(types=["conv2d"]), keep(match="layer1.1.*")], 0, 0, [STEM, *CONVS[:2]]),
    "and not the first": ([keep(match="layer1.1.*"), use(types=["conv2d"])], 0, 0, [STEM, *CONVS]),
    "a glob does not beat keep_first": ([use(match="st*"), use(match=DOWN)], 1, 0, [DOWN]),
    "a regex does not beat keep_last": ([use(match="re:head"), use(match=DOWN)], 0, 1, [DOWN]),
    "keep_first is not undone by a type rule": ([use(types=["conv2d"])], 1, 0, CONVS),
    "star crosses dots": ([use(match="*conv1")], 0, 0, [CONVS[0], CONVS[2]]),
    "question mark": ([use(match="layer1.?.conv2")], 0, 0, [CONVS[1], CONVS[3]]),
    "set of characters": ([use(match="layer1.[1-9].conv[12]")], 0, 0, CONVS[2:]),
    "regex matches the whole name": ([use(match=r"re:layer1\.\d+\.conv2")], 0, 0, [CONVS[1], CONVS[3]]),
    "regex is no search": ([use(match=r"re:conv2"), use(match=DOWN)][1:], 0, 0, [DOWN]),
    "types as classes": ([use(types=[nn.Linear])], 0, 0, [DOWN, HEAD]),
    "a class takes its subclasses": ([use(types=[MyLinear])], 0, 0, [HEAD]),
    "a key takes subclasses that compute alike": ([use(types=["linear"])], 0, 0, [DOWN, HEAD]),
    "match and types together": ([use(match="layer*", types=["linear"])], 0, 0, [DOWN]),
    "mixed types": ([use(types=["linear", nn.Conv2d])], 0, 0, EVERY),
    "no rule, no change": ([use(match=DOWN)], 0, 0, [DOWN]),
    "a kept class": ([use(types=["linear"]), keep(types=[MyLinear])], 0, 0, [DOWN]),
}


@pytest.mark.parametrize("case", PRECEDENCE)
def test_precedence(case: str) -> None:
    rules, first, last, expected = PRECEDENCE[case]
    plan = bnnapps.plan(network(), rules, keep_first=first, keep_last=last)
    assert [e.name for e in plan.binarized] == expected
    assert [e.name for e in plan.entries] == EVERY
    assert sorted([*plan.binarized, *plan.kept], key=id) == sorted(plan.entries, key=id)


def test_every_entry_says_why() -> None:
    rules = [use(types=["conv2d"]), Rule(match="layer1.0.*", keep="as in the paper"), use(match=DOWN)]
    plan = bnnapps.plan(network(), rules)
    reasons = {e.name: e.reason for e in plan.entries}
    assert reasons == {
        STEM: "keep_first: 1",
        CONVS[0]: "as in the paper",
        CONVS[1]: "as in the paper",
        CONVS[2]: "rule 1",
        CONVS[3]: "rule 1",
        DOWN: "rule 3, exact name",
        HEAD: "keep_last: 1",
    }


def test_overrides_reach_the_parts() -> None:
    rules = [
        use(types=["conv2d", "linear"]),
        use(match=HEAD),
        Rule(match=DOWN, use={"method": "bit", "activation_bits": 2, "weight.scale_over": "filter"}),
        Rule(match="layer1.*", types=["conv2d"], use={"method": "xnor", "pad_value": 1, "activation.scale": "none"}),
        Rule(match=CONVS[3], use={"method": "bnn", "activation": {"estimator": {"name": "ede", "t_min": 0.001}}}),
    ]
    specs: dict[str, Any] = {e.name: e.spec for e in bnnapps.plan(network(), rules).entries}
    assert specs[DOWN].activation.bits == 2
    assert specs[DOWN].activation.scale == "elastic"
    assert specs[DOWN].weight.scale_over == "filter"
    assert specs[CONVS[0]].pad_value == 1
    assert specs[CONVS[0]].activation.scale == "none"
    assert specs[CONVS[0]].weight.scale_gradient == "full"
    assert specs[CONVS[3]].activation.estimator.name == "ede"
    assert specs[CONVS[3]].activation.estimator.t_min == 0.001
    assert specs[CONVS[3]].pad_value == 0
    assert specs[STEM] is None


def test_overrides_do_not_leak_into_the_method() -> None:
    before = bnnapps.methods.get_method("bnn").layers["linear"].model_dump()
    bnnapps.plan(network(), [Rule(match=DOWN, use={"method": "bnn", "activation.unsigned": True})])
    assert bnnapps.methods.get_method("bnn").layers["linear"].model_dump() == before


FORMS: dict[str, Any] = {
    "method name": "bnn",
    "rule": use(types=["conv2d", "linear"]),
    "list of rules": [use(types=["conv2d", "linear"])],
    "tuple of rules": (use(types=["conv2d", "linear"]),),
    "mapping of one rule": {"types": ["conv2d", "linear"], "use": "bnn"},
    "list of mappings": [{"types": ["conv2d", "linear"], "use": {"method": "bnn"}}],
    "recipe with rules": {"rules": [{"types": ["conv2d", "linear"], "use": "bnn"}]},
    "recipe with a method": {"method": "bnn"},
    "recipe with counts": {"rules": [use(types=["conv2d", "linear"])], "keep_first": 1, "keep_last": 1},
    "rule set": RuleSet((use(types=["conv2d", "linear"]),)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_give_rules(form: str) -> None:
    plan = bnnapps.plan(network(), FORMS[form])
    assert [e.name for e in plan.binarized] == [*CONVS, DOWN]
    assert (plan.keep_first, plan.keep_last) == (1, 1)


@pytest.mark.parametrize("form", FORMS)
def test_counts_given_as_arguments_win(form: str) -> None:
    plan = bnnapps.plan(network(), FORMS[form], keep_first=0, keep_last=2)
    assert [e.name for e in plan.binarized] == [STEM, *CONVS]
    assert (plan.keep_first, plan.keep_last) == (0, 2)


def test_a_recipe_may_give_a_method_and_rules_on_top_of_it() -> None:
    recipe = {"method": "bnn", "rules": [{"match": DOWN, "keep": "narrow"}], "keep_last": 0}
    plan = bnnapps.plan(network(), recipe)
    assert [e.name for e in plan.binarized] == [*CONVS, HEAD]
    assert as_rule_set({"method": "bibert", "keep_first": 3}, network()).keep_first == 3
    assert as_rule_set({"method": "bibert", "rules": None}, network()).keep_first == 0


def test_a_recipe_may_change_the_parts_of_its_method() -> None:
    recipe = {"method": "xnor", "overrides": {"activation.scale": "none", "pad_value": 1, "weight.scale": "none"}}
    recipe |= {"rules": [{"match": CONVS[0], "use": {"method": "xnor", "pad_value": -1}}]}
    specs: dict[str, Any] = {e.name: e.spec for e in bnnapps.plan(network(), recipe).entries}
    for name in (*CONVS[1:], DOWN):
        assert specs[name].activation.scale == "none"
        assert specs[name].weight.scale == "none"
    assert [specs[n].pad_value for n in CONVS] == [-1, 1, 1, 1]
    assert specs[CONVS[0]].activation.scale == "input_map"
    assert not hasattr(specs[DOWN], "pad_value")


def test_a_recipe_may_change_a_method_whose_rules_have_overrides_of_their_own() -> None:
    recipe = {"method": "bit", "overrides": {"activation_bits": 2, "softmax": False}}
    specs: dict[str, Any] = {e.name: e.spec for e in bnnapps.plan(build("bert"), recipe).binarized}
    second, attention = "bert.encoder.layer.0.output.dense", "bert.encoder.layer.0.attention.self"
    assert specs[second].activation.bits == 2
    assert specs[second].activation.unsigned
    assert not specs[attention].softmax
    assert {specs[attention].query.bits, specs[attention].weights.bits} == {2}


def test_one_rule_for_several_kinds_gives_each_what_it_can_have() -> None:
    rules = [Rule(types=["conv2d", "linear"], use={"method": "bnn", "pad_value": 1, "activation_bits": 1})]
    specs: dict[str, Any] = {e.name: e.spec for e in bnnapps.plan(network(), rules).entries}
    assert specs[CONVS[0]].pad_value == 1
    assert specs[DOWN] == bnnapps.methods.get_method("bnn").layers["linear"]


def test_counts_of_a_method_are_its_own() -> None:
    assert as_rule_set("bibert", network()).keep_first == bnnapps.methods.get_method("bibert").keep_first == 0


RULE_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "neither use nor keep": ({"match": "a"}, "give exactly one of 'use' (a method) and 'keep' (a reason)"),
    "use and keep": ({"match": "a", "use": "bnn", "keep": "no"}, "give exactly one of 'use'"),
    "neither match nor types": ({"use": "bnn"}, "give 'match' (a name or pattern), 'types', or both"),
    "match is no string": ({"match": 3, "use": "bnn"}, "'match' is 3; expected a string"),
    "keep is no reason": ({"match": "a", "keep": True}, "'keep' is True; expected a reason in words"),
    "use is no method": ({"match": "a", "use": 3}, "'use' is 3; expected a method name or a mapping"),
    "use without method": ({"match": "a", "use": {"pad_value": 1}}, "'use' has no 'method'"),
    "types is one string": ({"types": "linear", "use": "bnn"}, "'types' is 'linear'; expected a list such as"),
    "types is empty": ({"types": [], "use": "bnn"}, "'types' is []; expected a list"),
    "types holds no class": ({"types": [3], "use": "bnn"}, "type 3 is neither a registry key nor a module class"),
    "types holds another class": ({"types": [dict], "use": "bnn"}, "is neither a registry key nor a module class"),
    "unknown type": ({"types": ["conv4d"], "use": "bnn"}, "unknown type 'conv4d'; the nearest are 'conv"),
    "bad regex": ({"match": "re:(", "use": "bnn"}, "'re:(' is no regular expression"),
}


@pytest.mark.parametrize("case", RULE_ERRORS)
def test_a_malformed_rule_is_named_with_what_is_wrong(case: str) -> None:
    fields, message = RULE_ERRORS[case]
    with pytest.raises(BinarizeError) as caught:
        Rule(**fields)
    assert message in str(caught.value)
    assert str(caught.value).startswith("rule {")
    assert "\n" not in str(caught.value)


SET_ERRORS: dict[str, tuple[Any, str]] = {
    "unknown key of a rule": ([{"match": "a", "uses": "bnn"}], "rule 1: unknown key 'uses'; the nearest are 'use'"),
    "no rule": ([{"match": "head", "use": "bnn"}, 5], "rule 2: 5 is neither a Rule nor a mapping of its fields"),
    "unknown key of a recipe": ({"rule": []}, "binarize: unknown key 'rule'; the nearest are 'rules'"),
    "empty recipe": ({}, "binarize: give 'method' (a name), 'rules' (a list), or both"),
    "only counts": ({"keep_first": 1}, "binarize: give 'method'"),
    "number": (5, "rules are 5; expected a method name, a Rule, a list of rules or a mapping"),
    "none": (None, "rules are None; expected"),
    "rules without value": ({"rules": None}, "rules are None; expected"),
    "unknown method": ("bibrt", "unknown method 'bibrt'; the nearest are 'bibert'"),
    "unknown method in a recipe": ({"method": "xnr"}, "unknown method 'xnr'; the nearest are 'xnor'"),
    "negative count": ({"method": "bnn", "keep_first": -1}, "keep_first is -1; expected a whole number, 0 or more"),
    "count of another type": ({"method": "bnn", "keep_last": "1"}, "keep_last is '1'; expected a whole number"),
    "boolean count": ({"method": "bnn", "keep_last": True}, "keep_last is True; expected a whole number"),
}


@pytest.mark.parametrize("case", SET_ERRORS)
def test_malformed_rules_are_named_with_what_is_wrong(case: str) -> None:
    rules, message = SET_ERRORS[case]
    with pytest.raises(BinarizeError) as caught:
        bnnapps.plan(network(), rules)
    assert message in str(caught.value)


def test_a_rule_prints_its_fields() -> None:
    assert str(Rule(match="a.*", use="bnn")) == "{match: 'a.*', use: 'bnn'}"
    assert as_rule({"types": ["linear"], "keep": "no"}, 1) == Rule(types=["linear"], keep="no")


@pytest.mark.parametrize(
    ("match", "exact"), [("a.b", True), ("", True), ("a.*", False), ("a?", False), ("a[1]", False), ("re:a", False)]
)
def test_what_counts_as_an_exact_name(match: str, exact: bool) -> None:
    assert Rule(match=match, use="bnn").is_exact == exact


def test_case_counts_in_names() -> None:
    model = nn.ModuleDict({"Head": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    plan = bnnapps.plan(model, [use(match="H*")], keep_first=0, keep_last=0)
    assert [e.name for e in plan.binarized] == ["Head"]


def test_the_root_itself_can_be_the_layer() -> None:
    for rules in ([use(match="")], [use(types=["linear"])]):
        layer: nn.Module = nn.Linear(3, 4)
        x = torch.randn(2, 3)
        expected = layer(x)
        made = bnnapps.binarize(layer, rules, keep_first=0, keep_last=0)
        assert made is layer
        assert type(made).__name__ == "BinaryLinear"
        bnnapps.plan_of(made).assert_ran(made, x)
        assert list(bnnapps.binary_state_dict(made)) == ["weight"]
        assert type(bnnapps.restore(made)) is nn.Linear
        assert torch.equal(made(x), expected)

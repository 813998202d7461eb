"""The plan: which layers become binary, how, and why. Making one changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from bnnapps.binarize.bases import with_base_convs
from bnnapps.binarize.checks import check_layer, check_model
from bnnapps.binarize.readers import readers
from bnnapps.binarize.registry import LayerType, layer_types, type_of
from bnnapps.binarize.roles import Roles, find_roles
from bnnapps.binarize.rules import Rule, RuleSet, RulesLike, as_rule_set
from bnnapps.binarize.sizes import with_output_sizes
from bnnapps.binarize.warnings import plan_warnings
from bnnapps.errors import BinarizeError, nearest
from bnnapps.methods.method import get_method
from bnnapps.nn.spec import Spec, accepts, override
from bnnapps.validation import validated

FORMAT = 1

WEIGHTLESS = ("nonlinearity", "block", "aggregation")
"""Slots of what holds no weights of its own, and so is no first or last layer."""


@dataclass(frozen=True)
class Entry:
    """One layer that has a binary twin, and what happens to it.

    Attributes:
        name: its dotted name; `names` has all of them, where a module is shared.
        type: key of its layer type.
        kind: its class.
        method: the method that binarizes it, or `None`: it stays as it is.
        spec: the record of its parts, or `None`.
        reason: why.
        parameters: how many parameters it holds itself.

    """

    name: str
    names: tuple[str, ...]
    type: str
    kind: str
    method: str | None
    spec: Spec | None
    reason: str
    parameters: int

    @property
    def binarized(self) -> bool:
        """Whether the layer becomes binary."""
        return self.method is not None


@dataclass(frozen=True)
class Plan:
    """What `binarize` does to a model, layer by layer. Prints as a table; travels in checkpoints as `to_dict()`."""

    model: str
    entries: tuple[Entry, ...]
    keep_first: int
    keep_last: int
    roles: str
    warnings: tuple[str, ...] = field(default=())

    @property
    def binarized(self) -> tuple[Entry, ...]:
        """The layers that become binary."""
        return tuple(e for e in self.entries if e.binarized)

    @property
    def kept(self) -> tuple[Entry, ...]:
        """The layers that could be binary and stay real."""
        return tuple(e for e in self.entries if not e.binarized)

    def assert_ran(self, model: nn.Module, example_inputs: Any, *, idle: Sequence[str] = ()) -> None:
        """Prove that every binary layer computes: see `bnnapps.binarize.proof.assert_ran`."""
        from bnnapps.binarize.proof import assert_ran

        assert_ran(self, model, example_inputs, idle=idle)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON or a checkpoint."""
        return {
            "format": FORMAT,
            "model": self.model,
            "keep_first": self.keep_first,
            "keep_last": self.keep_last,
            "roles": self.roles,
            "warnings": list(self.warnings),
            "layers": [
                {
                    "name": e.name,
                    "names": list(e.names),
                    "type": e.type,
                    "kind": e.kind,
                    "method": e.method,
                    "spec": None if e.spec is None else e.spec.model_dump(),
                    "reason": e.reason,
                    "parameters": e.parameters,
                }
                for e in self.entries
            ],
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Plan:
        """The plan that `to_dict` wrote.

        Raises:
            BinarizeError: the data is no plan, or one of a newer format.

        """
        try:
            if data["format"] > FORMAT:
                raise BinarizeError(
                    f"the plan has format {data['format']}, this bnnapps reads up to {FORMAT}: update bnnapps"
                )
            entries = tuple(_entry(layer) for layer in data["layers"])
            counts = int(data["keep_first"]), int(data["keep_last"])
            return Plan(str(data["model"]), entries, *counts, str(data["roles"]), tuple(data["warnings"]))
        except (KeyError, TypeError, ValueError) as problem:
            if isinstance(problem, BinarizeError):
                raise
            raise BinarizeError(f"this is no plan of bnnapps: {problem!r}") from None

    def __str__(self) -> str:
        from bnnapps.binarize.table import plan_table
        from bnnapps.text import render

        return render(plan_table(self))


def _entry(layer: Mapping[str, Any]) -> Entry:
    spec = None
    if layer["spec"] is not None:
        if layer["type"] not in layer_types():
            raise BinarizeError(f"the plan has a layer of type '{layer['type']}', which is not known here")
        kind = layer_types()[layer["type"]].spec
        spec = validated(kind, layer["spec"], f"plan, layer '{layer['name']}'", BinarizeError)
    if (spec is None) != (layer["method"] is None):
        raise BinarizeError(f"plan, layer '{layer['name']}': give both 'method' and 'spec', or neither")
    return Entry(
        str(layer["name"]),
        tuple(layer["names"]),
        str(layer["type"]),
        str(layer["kind"]),
        layer["method"],
        spec,
        str(layer["reason"]),
        int(layer["parameters"]),
    )


@dataclass(frozen=True)
class _Candidate:
    names: tuple[str, ...]
    module: nn.Module
    type: LayerType
    parent: str | None  # the composite that computes for it
    reader: str | None  # the class that reads its weight instead of calling it

    @property
    def name(self) -> str:
        return self.names[0]


def plan(
    model: nn.Module,
    rules: RulesLike,
    *,
    keep_first: int | None = None,
    keep_last: int | None = None,
    example_inputs: Any = None,
) -> Plan:
    """Decide what `binarize` would do to `model`; reads only.

    Precedence: an exact name, then `keep_first` and `keep_last`, then the last matching rule, else kept. A layer whose
    parent reads its weight, and never calls it, stays real unless a rule has its exact name.

    Args:
        model: any float module.
        rules: a method's name, a `Rule`, a list of rules (or of mappings of their fields), or a mapping with the keys
            `rules`, `method`, `keep_first`, `keep_last` (the `binarize` part of a recipe).
        keep_first: how many first layers stay real; by default the method's own count, or 1.
        keep_last: 1 keeps every head, more also the layers before; by default the method's own count, or 1.
        example_inputs: a tensor, a tuple or a dict; used where the model's metadata does not tell the first and last
            layer, and to see which inputs are never negative.

    Raises:
        BinarizeError: see the message.

    """
    check_model(model)
    chosen = as_rule_set(rules, model, keep_first, keep_last)
    candidates = _candidates(model)
    _check_rules(chosen, model, candidates)
    computing = [c for c in candidates if c.parent is None]
    weightless = [c.name for c in computing if c.type.slot in WEIGHTLESS]
    roles = find_roles(model, [c.name for c in computing], example_inputs, weightless)
    first, last = roles.first_layers(chosen.keep_first), roles.last_layers(chosen.keep_last)
    entries = tuple(_decide(c, chosen, first, last) for c in candidates)
    for entry, candidate in zip(entries, candidates, strict=True):
        if entry.binarized:
            check_layer(entry.name, candidate.module)
            candidate.type.twin.check_spec(entry.name, candidate.module, entry.spec)
            for child in candidate.type.absorbs:
                check_layer(f"{entry.name}.{child}", candidate.module.get_submodule(child))
    if not any(e.binarized for e in entries):
        raise BinarizeError(_nothing(entries, chosen, roles))
    entries = with_base_convs(with_output_sizes(model, entries, example_inputs))
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    found = plan_warnings(model, entries, example_inputs)
    return Plan(kind, entries, chosen.keep_first, chosen.keep_last, roles.source, tuple(found))


def _nothing(entries: Sequence[Entry], chosen: RuleSet, roles: Roles) -> str:
    if not entries:
        return "the model has no layer with a binary twin: see `bnnapps list layers`"
    kept = "; ".join(f"'{e.name}': {e.reason}" for e in entries[:3])
    return (
        f"no layer would become binary ({kept}): set keep_first (now {chosen.keep_first}) or keep_last (now "
        f"{chosen.keep_last}) to 0, or name layers in the rules"
    )


def _candidates(model: nn.Module) -> list[_Candidate]:
    names: dict[int, list[str]] = {}
    modules: dict[int, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
        modules[id(module)] = module
    parents: dict[int, str] = {}
    for key, module in modules.items():
        found = type_of(module)
        for child in found.absorbs if found else ():
            parents[id(getattr(module, child))] = names[key][0]
    read = readers(model)
    return [
        _Candidate(tuple(names[key]), module, found, parents.get(key), read.get(key))
        for key, module in modules.items()
        if (found := type_of(module)) is not None
    ]


def _check_rules(rules: RuleSet, model: nn.Module, candidates: Sequence[_Candidate]) -> None:
    modules = list(model.named_modules(remove_duplicate=False))
    absorbed = {id(c.module): c for c in candidates if c.parent is not None}
    for rule in rules.rules:
        if rule.method is not None:
            get_method(rule.method, f"rule {rule}")
        hits = [(n, m) for n, m in modules if rule.matches(n, m)]
        if not hits:
            raise BinarizeError(_no_match(rule, modules, candidates))
        for name, module in hits:
            if type_of(module) is None and (rule.use is not None or rule.is_exact):
                raise BinarizeError(
                    f"rule {rule}: '{name}' is a {type(module).__name__}, which has no binary twin: name layers of the "
                    f"types {', '.join(layer_types())}"
                )
        if all(id(m) in absorbed for _, m in hits):
            child = absorbed[id(hits[0][1])]
            raise BinarizeError(
                f"rule {rule}: '{hits[0][0]}' is never called, its parent '{child.parent}' computes with its weight, "
                f"so replacing it would do nothing: name '{child.parent}' instead"
            )


def _no_match(rule: Rule, modules: Sequence[tuple[str, nn.Module]], candidates: Sequence[_Candidate]) -> str:
    named = [n for n, _ in modules if rule.matches_name(n)]
    if rule.types is not None and named and rule.match is not None:
        kinds = ", ".join(sorted({type(m).__name__ for n, m in modules if rule.matches_name(n)})[:6])
        return f"rule {rule} matches nothing: the names that fit have none of these types; theirs are {kinds}"
    if rule.match is None:
        present = ", ".join(dict.fromkeys(c.type.key for c in candidates)) or "none"
        return f"rule {rule} matches nothing: the model has no layer of these types; it has {present}"
    close = nearest(rule.match.removeprefix("re:"), [n for c in candidates for n in c.names])
    return f"rule {rule} matches nothing: the nearest layer names are {close}"


def _decide(candidate: _Candidate, rules: RuleSet, first: set[str], last: set[str]) -> Entry:
    decisions = {name: _decision(name, candidate, rules, first, last) for name in candidate.names}
    name, (rule, reason) = next(iter(decisions.items()))
    for other, (other_rule, _) in decisions.items():
        if _effect(other_rule) != _effect(rule):
            raise BinarizeError(
                f"'{name}' and '{other}' are one shared module, which the rules claim twice and differently "
                f"({_effect(rule)} and {_effect(other_rule)}): give both names the same rule"
            )
    spec, method = None, None
    if rule is not None and rule.method is not None:
        layers = get_method(rule.method).layers
        if candidate.type.slot in layers:
            method = rule.method
            spec = layers[candidate.type.slot]
            # One rule may be about several kinds of layer: what only another kind has is left to that kind.
            others = [s for slot, s in layers.items() if slot != candidate.type.slot]
            changes = {
                key: value
                for key, value in rule.overrides.items()
                if accepts(spec, key) or not any(accepts(other, key) for other in others)
            }
            spec = override(spec, changes, f"rule {rule}, layer '{name}'")
        elif rule.is_exact or rule.types is not None:
            raise BinarizeError(
                f"rule {rule}: the method '{rule.method}' has no parts for '{name}' ({candidate.type.key}): it covers "
                f"{', '.join(layers)}"
            )
        else:
            reason = f"'{rule.method}' has no parts for this type"
    parameters = sum(p.numel() for p in candidate.module.parameters(recurse=False))
    kind = type(candidate.module).__name__
    return Entry(name, candidate.names, candidate.type.key, kind, method, spec, reason, parameters)


def _effect(rule: Rule | None) -> str:
    if rule is None or rule.keep is not None:
        return "keep"
    return f"use {rule.method}" + (f" with {rule.overrides}" if rule.overrides else "")


def _decision(
    name: str, candidate: _Candidate, rules: RuleSet, first: set[str], last: set[str]
) -> tuple[Rule | None, str]:
    if candidate.parent is not None:
        return None, f"its parent '{candidate.parent}' computes with it"
    hits = [(i + 1, r) for i, r in enumerate(rules.rules) if r.matches(name, candidate.module)]
    exact = [(i, r) for i, r in hits if r.is_exact]
    if exact:
        number, rule = exact[-1]
        return rule, rule.keep or f"rule {number}, exact name"
    if candidate.reader is not None:
        return None, f"{candidate.reader} reads its weight instead of calling it"
    if candidate.name in first:
        return None, f"keep_first: {rules.keep_first}"
    if candidate.name in last:
        return None, f"keep_last: {rules.keep_last}"
    if hits:
        number, rule = hits[-1]
        return rule, rule.keep or f"rule {number}"
    return None, "no rule"

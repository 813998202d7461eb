"""Rules: which layers become binary, and how."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from bnnapps.binarize.registry import layer_types, type_of
from bnnapps.errors import BinarizeError, nearest

_WILDCARDS = set("*?[")
_REGEX = "re:"


@dataclass(frozen=True)
class Rule:
    r"""Which layers, and what to do with them.

    Attributes:
        match: a glob on the dotted module name (`*` also crosses dots); without wildcards it is that exact name;
            with the prefix `re:` a regular expression that must match the whole name. `None` matches every name.
        types: keys of layer types (`linear`, `conv2d`, `hf.SelfAttention`, see `bnnapps list layers`) or classes.
            `None` matches every type that has a binary twin.
        use: a method name, or a mapping of `method` and overrides of its parts.
        keep: a reason to leave the layers as they are.

    Exactly one of `use` and `keep` is given, and at least one of `match` and `types`.

    Example:
        >>> Rule(types=["linear"], use="xnor").use
        'xnor'
        >>> Rule(match=r"re:layer4\.\d+\.conv2", use={"method": "xnor", "pad_value": 1}).is_exact
        False

    """

    match: str | None = None
    types: Sequence[str | type[nn.Module]] | None = None
    use: str | Mapping[str, Any] | None = None
    keep: str | None = None

    def __post_init__(self) -> None:
        where = f"rule {self._given()}"
        if (self.use is None) == (self.keep is None):
            raise BinarizeError(f"{where}: give exactly one of 'use' (a method) and 'keep' (a reason)")
        if self.match is None and self.types is None:
            raise BinarizeError(f"{where}: give 'match' (a name or pattern), 'types', or both")
        if self.match is not None and not isinstance(self.match, str):
            raise BinarizeError(f"{where}: 'match' is {self.match!r}; expected a string")
        if self.keep is not None and not isinstance(self.keep, str):
            raise BinarizeError(f"{where}: 'keep' is {self.keep!r}; expected a reason in words")
        self._check_use(where)
        self._check_types(where)
        if self.match is not None and self.match.startswith(_REGEX):
            try:
                re.compile(self.match.removeprefix(_REGEX))
            except re.error as problem:
                raise BinarizeError(f"{where}: '{self.match}' is no regular expression: {problem}") from None

    def _given(self) -> str:
        return "{" + ", ".join(f"{k}: {v!r}" for k, v in dataclasses.asdict(self).items() if v is not None) + "}"

    def _check_use(self, where: str) -> None:
        if isinstance(self.use, Mapping):
            if not isinstance(self.use.get("method"), str):
                raise BinarizeError(f"{where}: 'use' has no 'method'; expected {{method: NAME, field: value, ...}}")
        elif self.use is not None and not isinstance(self.use, str):
            raise BinarizeError(f"{where}: 'use' is {self.use!r}; expected a method name or a mapping")

    def _check_types(self, where: str) -> None:
        if self.types is None:
            return
        if isinstance(self.types, str) or not isinstance(self.types, Sequence) or not self.types:
            raise BinarizeError(f"{where}: 'types' is {self.types!r}; expected a list such as [linear, conv2d]")
        for kind in self.types:
            if isinstance(kind, str):
                if kind not in layer_types():
                    raise BinarizeError(
                        f"{where}: unknown type '{kind}'; the nearest are {nearest(kind, layer_types())}"
                    )
            elif not (isinstance(kind, type) and issubclass(kind, nn.Module)):
                raise BinarizeError(f"{where}: type {kind!r} is neither a registry key nor a module class")

    @property
    def method(self) -> str | None:
        """The method's name, if the rule uses one."""
        return str(self.use["method"]) if isinstance(self.use, Mapping) else self.use

    @property
    def overrides(self) -> dict[str, Any]:
        """What the rule changes in the method's parts."""
        return {k: v for k, v in self.use.items() if k != "method"} if isinstance(self.use, Mapping) else {}

    @property
    def is_exact(self) -> bool:
        """Whether `match` is one name rather than a pattern."""
        return self.match is not None and not self.match.startswith(_REGEX) and not _WILDCARDS & set(self.match)

    def matches_name(self, name: str) -> bool:
        """Whether the dotted name fits `match`."""
        if self.match is None:
            return True
        if self.match.startswith(_REGEX):
            return re.fullmatch(self.match.removeprefix(_REGEX), name) is not None
        return name == self.match if self.is_exact else fnmatch.fnmatchcase(name, self.match)

    def matches_type(self, module: nn.Module) -> bool:
        """Whether the module fits `types`."""
        found = type_of(module)
        if self.types is None:
            return found is not None or self.is_exact
        return any(
            (found is not None and found.key == kind) if isinstance(kind, str) else isinstance(module, kind)
            for kind in self.types
        )

    def matches(self, name: str, module: nn.Module) -> bool:
        """Whether the rule is about this module."""
        return self.matches_name(name) and self.matches_type(module)

    def __str__(self) -> str:
        return self._given()


@dataclass(frozen=True)
class RuleSet:
    """Rules in order, with the number of first and last layers that stay real."""

    rules: tuple[Rule, ...]
    keep_first: int = 1
    keep_last: int = 1

    def __post_init__(self) -> None:
        for name in ("keep_first", "keep_last"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise BinarizeError(f"{name} is {value!r}; expected a whole number, 0 or more")


RulesLike: TypeAlias = "str | Rule | RuleSet | Mapping[str, Any] | Sequence[Rule | Mapping[str, Any]]"


def as_rule(value: Rule | Mapping[str, Any], position: int) -> Rule:
    """A rule from a mapping of its fields."""
    if isinstance(value, Rule):
        return value
    if not isinstance(value, Mapping):
        raise BinarizeError(f"rule {position}: {value!r} is neither a Rule nor a mapping of its fields")
    fields = [f.name for f in dataclasses.fields(Rule)]
    for key in value:
        if key not in fields:
            raise BinarizeError(f"rule {position}: unknown key '{key}'; the nearest are {nearest(str(key), fields)}")
    return Rule(**value)


def as_rule_set(
    rules: RulesLike, model: nn.Module, keep_first: int | None = None, keep_last: int | None = None
) -> RuleSet:
    """Everything that `plan` accepts, as one rule set.

    A method's name stands for that method's own rules and counts; a list of rules keeps one first and one last
    layer unless told otherwise; a mapping has the keys `method` (its rules come first, changed by `overrides`),
    `rules`, or both, and `keep_first`, `keep_last`.
    """
    if isinstance(rules, RuleSet):
        found = rules
    elif isinstance(rules, str):
        from bnnapps.methods import get_method

        method = get_method(rules)
        found = RuleSet(tuple(method.rules(model)), method.keep_first, method.keep_last)
    elif isinstance(rules, Rule):
        found = RuleSet((rules,))
    elif isinstance(rules, Mapping) and not {"match", "types", "use", "keep"} & set(rules):
        return _from_mapping(rules, model, keep_first, keep_last)
    elif isinstance(rules, Mapping):
        found = RuleSet((as_rule(rules, 1),))
    elif isinstance(rules, Sequence):
        found = RuleSet(tuple(as_rule(r, i + 1) for i, r in enumerate(rules)))  # type: ignore[arg-type]
    else:
        raise BinarizeError(f"rules are {rules!r}; expected a method name, a Rule, a list of rules or a mapping")
    return RuleSet(
        found.rules,
        found.keep_first if keep_first is None else keep_first,
        found.keep_last if keep_last is None else keep_last,
    )


def _from_mapping(rules: Mapping[str, Any], model: nn.Module, keep_first: int | None, keep_last: int | None) -> RuleSet:
    known = ("rules", "method", "overrides", "keep_first", "keep_last")
    for key in rules:
        if key not in known:
            raise BinarizeError(f"binarize: unknown key '{key}'; the nearest are {nearest(str(key), known)}")
    if "rules" not in rules and "method" not in rules:
        raise BinarizeError("binarize: give 'method' (a name), 'rules' (a list), or both")
    first = rules.get("keep_first") if keep_first is None else keep_first
    last = rules.get("keep_last") if keep_last is None else keep_last
    if "method" not in rules:
        if rules.get("overrides"):
            raise BinarizeError("binarize: 'overrides' change the rules of 'method', which is not given")
        return as_rule_set(rules["rules"], model, first, last)
    base = as_rule_set(str(rules["method"]), model, first, last)
    changes = rules.get("overrides") or {}
    own = tuple(
        dataclasses.replace(r, use={"method": r.method, **r.overrides, **changes}) if r.use is not None else r
        for r in base.rules
    )
    more = as_rule_set(rules.get("rules") or [], model)
    return RuleSet(own + more.rules, base.keep_first, base.keep_last)

"""The layer table: what the plan decided, beside what each layer costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bnnapps.binarize import Plan
from bnnapps.binarize.plan import Entry
from bnnapps.binarize.table import describe
from bnnapps.nn.spec import ActivationSpec, LinearSpec, WeightSpec
from bnnapps.profile.table import short, size
from bnnapps.report.records import Costs, LayerCost
from bnnapps.stacking import stack_key, stacked_name

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One row: one layer, or several that repeat in a stack. Cells are text; an empty one has nothing to say.

    Attributes:
        name: of the layers.
        type: of the layers.
        method: what they became; "real" for a layer that could be binary and stays as it is, "" for the others.
        parts: weight and activation in words.
        params, float_bytes, packed_bytes, macs, bops: sums over the layers.
        why: the reason of the plan.
        binary: whether they became binary.

    """

    name: str
    type: str
    method: str
    parts: str
    params: str
    float_bytes: str
    packed_bytes: str
    macs: str
    bops: str
    why: str
    binary: bool


def layer_rows(plan: Plan | None, costs: Costs | None) -> list[Row]:
    """The layers of the plan in its order, then the others that have parameters or products."""
    entries = plan.entries if plan is not None else ()
    found = {row.name: row for row in (costs.layers if costs is not None else ())}
    planned = {name for e in entries for name in e.names}
    rows = []
    for group in _groups(entries, _entry_key):
        names = [next((n for n in e.names if n in found), e.name) for e in group]
        rows.append(_planned_row(group, [found[n] for n in names if n in found]))
    others = [row for row in found.values() if row.name not in planned]
    shown = [row for row in others if row.params or row.macs]
    for layers in _groups(shown, lambda r: (stack_key(r.name), r.kind)):
        rows.append(_row(stacked_name([r.name for r in layers]), layers[0].kind, layers))
    return rows


def _entry_key(entry: Entry) -> tuple[object, ...]:
    return stack_key(entry.name), entry.type, entry.method, repr(entry.spec), entry.reason


def _groups(items: Sequence[T], key: Callable[[T], object]) -> list[list[T]]:
    groups: dict[object, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _planned_row(group: Sequence[Entry], layers: Sequence[LayerCost]) -> Row:
    entry = group[0]
    numbers = _Sums(layers) if layers else None
    return Row(
        name=stacked_name([e.name for e in group]),
        type=entry.type,
        method=entry.method if entry.method is not None else "real",
        parts=describe(entry.spec) if entry.spec is not None else "",
        params=numbers.params if numbers is not None else short(sum(e.parameters for e in group)),
        float_bytes=numbers.float_bytes if numbers is not None else "",
        packed_bytes=numbers.packed_bytes if numbers is not None else "",
        macs=numbers.macs if numbers is not None else "",
        bops=numbers.bops if numbers is not None else "",
        why=entry.reason,
        binary=entry.binarized,
    )


def _row(name: str, kind: str, layers: Sequence[LayerCost]) -> Row:
    n = _Sums(layers)
    return Row(name, kind, "", "", n.params, n.float_bytes, n.packed_bytes, n.macs, n.bops, "", binary=False)


class _Sums:
    """The cells of several layers together."""

    def __init__(self, layers: Sequence[LayerCost]) -> None:
        self.params = short(sum(r.params for r in layers))
        self.float_bytes = _bytes(sum(r.float_bytes for r in layers))
        self.packed_bytes = _bytes(sum(r.packed_bytes for r in layers))
        self.macs = short(sum(r.macs for r in layers))
        self.bops = short(sum(r.bops for r in layers))


def _bytes(count: int) -> str:
    return size(count) if count else ""


def bits_of(plan: Plan) -> str:
    """Weight and activation bits of the binary linear layers and convolutions: "W1A1", "W1A2", "W1–2A1".

    A ternary or split weight counts 2, an activation of two signs too, a real operand 32.
    """
    specs = [e.spec for e in plan.binarized if isinstance(e.spec, LinearSpec)]
    if not specs:
        return ""
    return f"W{_span([_weight_bits(s.weight) for s in specs])}A{_span([_activation_bits(s.activation) for s in specs])}"


def _span(bits: Sequence[int]) -> str:
    return str(bits[0]) if len(set(bits)) == 1 else f"{min(bits)}–{max(bits)}"


def _weight_bits(spec: WeightSpec | None) -> int:
    return 32 if spec is None else 1 if spec.kind == "binary" else 2


def _activation_bits(spec: ActivationSpec | None) -> int:
    return 32 if spec is None else 2 if spec.scale == "dual" else spec.bits

"""How a plan looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bnnapps.nn.spec import (
    ActivationSpec,
    AggregationSpec,
    AttentionSpec,
    BlockSpec,
    EmbeddingSpec,
    LinearSpec,
    LookupSpec,
    MatmulSpec,
    NonlinearitySpec,
    Spec,
    WeightSpec,
)
from bnnapps.stacking import stack_key, stacked_name

if TYPE_CHECKING:
    from bnnapps.binarize.plan import Entry, Plan


def plan_table(plan: Plan) -> Group:
    """A row for each layer that has a binary twin; layers that repeat in a stack share a row."""
    table = Table(title=f"Plan for {plan.model.rsplit('.', 1)[-1]}", title_justify="left", pad_edge=False)
    for column in ("layer", "type", "becomes", "weight · activation", "why"):
        table.add_column(column, overflow="fold")
    table.add_column("parameters", justify="right")
    for entries in _stacked(plan.entries):
        entry = entries[0]
        becomes = Text(entry.method, style="bold green") if entry.method else Text("real", style="dim")
        table.add_row(
            stacked_name([e.name for e in entries]),
            entry.type,
            becomes,
            describe(entry.spec) if entry.spec else "",
            entry.reason,
            f"{sum(e.parameters for e in entries):,}",
        )
    binary = sum(e.parameters for e in plan.binarized)
    lines = [
        Text(f"{len(plan.binarized)} layers become binary ({binary:,} parameters), {len(plan.kept)} stay real."),
        Text(f"First and last layers: {plan.roles}; keep_first {plan.keep_first}, keep_last {plan.keep_last}."),
    ]
    lines += [Text(f"Warning: {line}.", style="yellow") for line in plan.warnings]
    return Group(table, *lines)


def describe(spec: Spec) -> str:
    """The parts in a few words."""
    if isinstance(spec, AttentionSpec):
        operands = {"q": spec.query, "k": spec.key, "v": spec.value, "a": spec.weights}
        kind = "softmax" if spec.softmax else "no softmax"
        return ", ".join(f"{n} {_activation(s)}" for n, s in operands.items()) + f", {kind}"
    if isinstance(spec, NonlinearitySpec):
        return spec.becomes
    if isinstance(spec, AggregationSpec):
        return _POOLS[spec.pool]
    if isinstance(spec, BlockSpec):
        return _block(spec)
    if isinstance(spec, LookupSpec):
        return f"tables, {_weight(spec.weight)}" + (f" · spectral {spec.spectral:g}" if spec.spectral else "")
    if isinstance(spec, MatmulSpec):
        return f"left {_activation(spec.left)}, right {_activation(spec.right)}"
    if isinstance(spec, EmbeddingSpec):
        return _weight(spec.weight)
    assert isinstance(spec, LinearSpec)
    pad = getattr(spec, "pad_value", 0)
    output = "" if spec.output is None else f" · {_OUTPUTS[spec.output.scale]}"
    return f"{_weight(spec.weight)} · {_activation(spec.activation)}{output}" + (f" · pad {pad:+d}" if pad else "")


_WEIGHT_SCALES = {
    "none": "",
    "mean_abs": " α",
    "power_of_two": " 2ⁿ",
    "affine": " mean, deviation",
    "learned": " learned α",
    "amplitude": " shared amplitude",
}
_ACTIVATION_SCALES = {
    "none": "",
    "elastic": " elastic",
    "uniform": " uniform",
    "unit": " of [0, 1]",
    "affine": " two learned levels",
    "input_map": " K",
    "sample": " mean |x|",
    "dual": " two, mean |rest|",
}
_POOLS = {
    "keep": "as it is",
    "max": "maximum",
    "mean": "mean",
    "ema_max": "maximum, its median taken off",
    "ema_avg": "mean",
}
_OUTPUTS = {
    "layer": "factor of the layer",
    "channel": "factor a channel",
    "position": "factor a position",
    "channel_position": "factors of channel and position",
    "rank_one": "factors of channel, row and column",
    "gate": "gate",
}


def _block(spec: BlockSpec) -> str:
    own = "own non-linearity" if spec.nonlinearity == "keep" else spec.nonlinearity
    parts = ["shortcut per conv" if spec.shortcut == "conv" else "one shortcut", f"norm {spec.norm} conv"]
    where = spec.nonlinearity_at.replace("_", " ")
    parts.append("no non-linearity" if spec.nonlinearity == "none" else f"{own} {where}")
    if spec.downsample == "avgpool":
        parts.append("average-pooled branch")
    if spec.bases > 1:
        parts.append(f"{spec.bases} bases" + (" with gates" if spec.gates else ""))
    if spec.dilations is not None:
        parts.append(f"dilations {', '.join(map(str, spec.dilations))}")
    return ", ".join(parts)


def _weight(spec: WeightSpec | None) -> str:
    if spec is None:
        return "real"
    scale = _WEIGHT_SCALES[spec.scale]
    if scale and spec.scale_over == "layer":
        scale += " of the layer"
    part = ("0,±1" if spec.kind == "ternary" else "±1") + scale
    return f"{part} + {part}" if spec.kind == "split" else part


def _activation(spec: ActivationSpec | None) -> str:
    if spec is None:
        return "real"
    several = f"{spec.bits} bits" + (" unsigned" if spec.unsigned else "")
    code = several if spec.bits > 1 else ("0,1" if spec.unsigned else "±1")
    return code + _ACTIVATION_SCALES[spec.scale] + (" shifted" if spec.shift != "none" else "")


def _stacked(entries: tuple[Entry, ...]) -> list[list[Entry]]:
    """Entries that differ only in numbers inside their names, together."""
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for e in entries:
        key = (stack_key(e.name), e.type, e.method, repr(e.spec), e.reason)
        groups.setdefault(key, []).append(e)
    return list(groups.values())

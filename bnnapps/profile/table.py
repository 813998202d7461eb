"""How a summary looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bnnapps.stacking import stack_key, stacked_name

if TYPE_CHECKING:
    from bnnapps.profile.summary import LayerRow, Summary


def summary_table(summary: Summary) -> Group:
    """A row for each layer with products or parameters; layers that repeat in a stack share one; then the totals."""
    table = Table(title=f"Summary of {summary.model}", title_justify="left", pad_edge=False)
    for column in ("layer", "output", "bits w·a"):
        table.add_column(column, overflow="fold")
    for column in ("BOPs", "float MACs", "other ops", "parameters", "bytes"):
        table.add_column(column, justify="right")
    shown = [r for r in summary.layers if r.macs or r.params]
    for rows in _stacked(shown):
        row = rows[0]
        table.add_row(
            stacked_name([r.name for r in rows]),
            "not run" if row.shape is None else "×".join(map(str, row.shape)),
            Text(f"{_bits(row.weight_bits)} · {_bits(row.activation_bits)}", style="green" if row.binary else ""),
            *(short(sum(values)) for values in zip(*(_numbers(r) for r in rows), strict=True)),
        )
    rest = sum(r.other_ops for r in summary.layers if not (r.macs or r.params))
    if rest:
        table.add_row("everything else", "", "", *map(short, (0, 0, rest, 0, 0)))
    return Group(table, *map(Text, _totals(summary)))


def _totals(s: Summary) -> list[str]:
    bits = [f"{short(s.params_1bit)} 1-bit"] if s.params_1bit else []
    bits += [f"{short(s.params_2bit)} 2-bit"] if s.params_2bit else []
    ratio = f", {s.float_bytes / s.packed_bytes:.1f} times smaller" if s.packed_bytes < s.float_bytes else ""
    return [
        f"Operations: {short(s.ops_paper) or 0} OPs as papers count: {short(s.flops) or 0} float MACs + "
        f"{short(s.bops) or 0} BOPs / 64. With every other float operation: {short(s.ops_all) or 0}. One MAC is one "
        "operation.",
        f"Parameters: {', '.join([*bits, f'{short(s.params_float) or 0} float (scales included)'])}. Stored: "
        f"{size(s.packed_bytes)} packed, {size(s.float_bytes)} as float32{ratio}.",
    ]


def _numbers(r: LayerRow) -> tuple[int, ...]:
    return r.bops, r.flops, r.other_ops, r.params, r.packed_bytes


def _bits(bits: int | None) -> str:
    return "-" if bits is None else "float" if bits == 32 else str(bits)


def short(number: float) -> str:
    """Three significant digits: 1.81 G, 163 M, 512; nothing for 0."""
    if number == 0:
        return ""
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * factor:
            return f"{_three(number / factor)} {unit}"
    return f"{number:.0f}"


def size(count: float) -> str:
    """Bytes with three significant digits; 1 MB is 10^6 bytes."""
    return f"{short(count)}B" if count >= 999.5 else f"{count:.0f} B"


def _three(number: float) -> str:
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


def _stacked(rows: Sequence[LayerRow]) -> list[list[LayerRow]]:
    """Rows that differ only in numbers inside their names, together."""
    groups: dict[tuple[object, ...], list[LayerRow]] = {}
    for r in rows:
        numbers = (r.shape, r.weight_bits, r.activation_bits, r.binary, *_numbers(r))
        groups.setdefault((stack_key(r.name), r.kind, *numbers), []).append(r)
    return list(groups.values())

"""How `bnnapps inspect` prints."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from bnnapps.text import terminal


def show(found: Any, every: bool) -> None:
    """The facts, a table of the nodes, and the totals.

    Args:
        found: a `bnnapps.export.inspection.Inspection`.
        every: also the nodes that stay real and hold no constants.

    """
    for name, value in _facts(found):
        print(f"{name:<14} {value}")
    rows = [n for n in found.nodes if every or n.bits or n.constant_bytes]
    terminal().print(_table(rows))
    left = len(found.nodes) - len(rows)
    if left:
        print(f"and {left} real nodes without constants (--all shows them)")
    print()
    for name, value in _totals(found):
        print(f"{name:<22} {value}")


def _facts(found: Any) -> list[tuple[str, str]]:
    dialect = found.dialect if found.dialect != "foreign" else "foreign: not written by bnnapps"
    facts = [("file", str(found.path)), ("dialect", dialect)]
    if found.written_by is not None:
        facts.append(("written by", f"bnnapps {found.written_by}"))
    facts.append(("opset", str(found.opset)))
    if found.packed_version:
        facts.append(("operators", f"domain bnnapps, version {found.packed_version}"))
    return facts


def _table(rows: list[Any]) -> Table:
    table = Table(pad_edge=False, box=None, header_style="bold")
    for column in ("node", "operator", "on bits", "output"):
        table.add_column(column, overflow="fold")
    for column in ("constant bytes", "1-bit weights"):
        table.add_column(column, justify="right")
    for node in rows:
        shape = "?" if node.shape is None else "×".join(str(size) for size in node.shape) or "scalar"
        weights = f"{node.one_bit_weights:,}" if node.one_bit_weights else ""
        constants = f"{node.constant_bytes:,}" if node.constant_bytes else ""
        cells = (node.name, node.operator, "yes" if node.bits else "", shape, constants, weights)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _totals(found: Any) -> list[tuple[str, str]]:
    on_bits = sum(node.bits for node in found.nodes)
    real = ", ".join(f"{count} {name}" for name, count in found.real.items())
    totals = [("file", f"{found.file_bytes:,} bytes")]
    if found.one_bit_weights:
        share = f"float32 would take {found.float_bytes:,}, {found.ratio:.1f} times as much"
        weights = f"{found.one_bit_weights:,} in {found.one_bit_bytes:,} bytes; {share}"
        totals.append(("1-bit weights", weights))
    else:
        totals.append(("1-bit weights", "none"))
    totals.append(("other constants", f"{found.other_constant_bytes:,} bytes"))
    if found.function_bytes:
        totals.append(("function bodies", f"{found.function_bytes:,} bytes"))
    totals.append(("nodes on bits", f"{on_bits} of {len(found.nodes)}"))
    totals.append(("nodes that stay real", real if real else "none"))
    return totals

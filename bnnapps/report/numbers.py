"""How the report writes numbers."""

from __future__ import annotations

from typing import Any

from bnnapps.profile.table import short


def metric(value: float) -> str:
    """A metric: four decimals, five significant digits from 100 on."""
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.5g}"


def percent(fraction: float) -> str:
    """A fraction in percent, with one decimal; 100 % and 0 % are said of the whole and of nothing only."""
    if 0 < fraction < 0.0005:
        return "under 0.1 %"
    if 0.9995 <= fraction < 1:
        return "over 99.9 %"
    return f"{100 * fraction:.1f} %" if fraction not in (0, 1) else f"{100 * fraction:.0f} %"


def count(value: float) -> str:
    """A count with three significant digits: "1.81 G", "512", "0"."""
    text = short(value)
    return text if text else "0"


def times(ratio: float) -> str:
    """A ratio, with three significant digits."""
    return f"{ratio:.1f}×" if ratio < 99.95 else f"{ratio:,.0f}×"


def duration(seconds: float) -> str:
    """Seconds in the largest fitting units: "7.3 s", "52 s", "5 min 12 s", "2 h 3 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def small(value: float) -> str:
    """An error or another number near 0: "0", "2.4e-07"."""
    return "0" if value == 0 else f"{value:.2g}"


def plain(value: Any) -> str:
    """Any value of a record, for people: thousands are separated, `None` is a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    return str(value)


def shape(sizes: Any) -> str:
    """The sizes of a tensor: "4×17×128"."""
    return "×".join(str(s) for s in sizes) if isinstance(sizes, (list, tuple)) else plain(sizes)

"""The HTML page of a design: the dataflow as a drawing, and the tables. One file, no script, nothing from a network."""

from __future__ import annotations

from html import escape
from typing import Any

from bnnapps.export.fpga.report import text

_STYLE = """
:root { --ground: #fff; --ink: #1b1f24; --ink-2: #57606a; --rule: #d0d7de; --fill: #eef4fb;
  --slow: #f3b27a; --bar: #4b86c5; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14171b; --ink: #e6e9ed; --ink-2: #9aa4af; --rule: #3a424b; --fill: #1e2a38;
    --slow: #8a5423; --bar: #5b97d6; }
}
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; max-width: 1060px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.lead { color: var(--ink-2); margin-top: .2rem; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.2rem 0; }
.numbers div { border: 1px solid var(--rule); border-radius: 6px; padding: .6rem .9rem; min-width: 9rem; }
.numbers b { display: block; font-size: 1.35rem; } .numbers small { color: var(--ink-2); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .55rem; border-bottom: 1px solid var(--rule); }
th { color: var(--ink-2); font-weight: 600; } th:first-child, td:first-child, .left { text-align: left; }
.wide { overflow-x: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .quiet { fill: var(--ink-2); }
"""

_BOX_WIDTH, _BOX_HEIGHT, _GAP, _COLUMNS = 210, 86, 34, 4


def page(found: dict[str, Any]) -> str:
    """The page for what `report.make_report` gives."""
    title = f"{found['network']} on {found['device']}"
    agreed = found["agreement"]
    data = f"{agreed['data']}, {agreed['vectors']:,} inputs"
    lead = (
        f"Bit-exact: the design gives the class and every sum of {escape(agreed['origin'])} on {escape(data)}, with "
        "and without random back-pressure."
    )
    parts = [
        f"<h1>{escape(title)}</h1><p class='lead'>{lead}</p>",
        _numbers(found),
        f"<h2>Dataflow</h2><p class='lead'>Each box computes while the others do{_shares(found)}</p>" + drawing(found),
        "<h2>Layers</h2>" + _layers(found["layers"]),
        "<h2>In all</h2>" + _totals(found),
        "<h2>Simulations</h2>" + _simulations(found["simulations"]),
        "<h2>Tools</h2>" + _tools(found),
        f"<p class='lead'>{escape(found['loader'] or '')} Rates are computed with {escape(found['clock'])}. Input and "
        f"output are outside of the design: it takes {found['input']['beats']} beats of "
        f"{found['input']['bits a beat']} bits an inference. Power: {escape(found['power'])}.</p>",
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _shares(found: dict[str, Any]) -> str:
    if any("cycles" in row for row in found["layers"]):
        return "; the bar is its share of the interval. The slowest is shaded."
    return ", and takes an inference in every cycle."


def _numbers(found: dict[str, Any]) -> str:
    totals = found["totals"]
    chosen = [
        name for name in ("inferences a second", "cycles an inference", "clock, MHz", "latency, µs") if name in totals
    ]
    chosen += [name for name in totals if name.startswith("LUT") and "RAM" not in name] + ["BRAM"]
    boxes = [(name, totals[name]) for name in chosen] + list(found["accuracy"].items())[:1]
    return (
        "<div class='numbers'>"
        + "".join(
            f"<div><b>{_text(number)}</b>{escape(name)}<br><small>{escape(number['kind'])}</small></div>"
            for name, number in boxes
        )
        + "</div>"
    )


def drawing(found: dict[str, Any]) -> str:
    """Boxes in the order of the stream, row by row, as SVG."""
    rows = [{"layer": "input", "what": f"{found['input']['codes of']}-bit codes"}, *found["layers"]]
    slowest = max((row["cycles"]["value"] for row in found["layers"] if "cycles" in row), default=0)
    lines = -(-len(rows) // _COLUMNS)
    width, height = _COLUMNS * (_BOX_WIDTH + _GAP), lines * (_BOX_HEIGHT + _GAP)
    shapes = []
    for number, row in enumerate(rows):
        x, y = (number % _COLUMNS) * (_BOX_WIDTH + _GAP), (number // _COLUMNS) * (_BOX_HEIGHT + _GAP)
        shapes.append(_box(row, x, y, slowest))
        if number + 1 < len(rows):
            shapes.append(_arrow(x, y, (number + 1) % _COLUMNS == 0))
    return f"<div class='wide'><svg width='{width}' height='{height}' role='img'>{''.join(shapes)}</svg></div>"


def _box(row: dict[str, Any], x: int, y: int, slowest: int) -> str:
    cycles = row.get("cycles", {}).get("value", 0)
    fill = "var(--slow)" if cycles and cycles == slowest else "var(--fill)"
    folded = f"PE {row['pe']} · SIMD {row['simd']}" if "pe" in row else ""
    counted = f"{cycles:,} cycles" if cycles else _deep(row)
    what = row["what"] if len(row["what"]) <= 34 else row["what"].replace(" convolution", "").replace(" positions", "")
    what = what if len(what) <= 38 else what[:37] + "…"
    share = (_BOX_WIDTH - 16) * cycles / max(1, slowest)
    bar = f"<rect x='{x + 8}' y='{y + 72}' width='{share:.0f}' height='6' fill='var(--bar)'/>"
    return (
        f"<rect x='{x}' y='{y}' width='{_BOX_WIDTH}' height='{_BOX_HEIGHT}' rx='6' fill='{fill}' stroke='var(--rule)'/>"
        f"<text x='{x + 8}' y='{y + 19}' font-weight='600'>{escape(row['layer'])}</text>"
        f"<text x='{x + 8}' y='{y + 37}' class='quiet' style='font-size:11px'>{escape(what)}</text>"
        f"<text x='{x + 8}' y='{y + 60}'>{escape(folded)}</text>"
        f"<text x='{x + _BOX_WIDTH - 8}' y='{y + 60}' text-anchor='end'>{counted}</text>" + (bar if cycles else "")
    )


def _deep(row: dict[str, Any]) -> str:
    depth = row.get("depth", {}).get("value", 0)
    return f"{depth} cycle{'s' if depth > 1 else ''} deep" if depth else ""


def _arrow(x: int, y: int, turns: bool) -> str:
    """To the next box, or to the beginning of the next row."""
    style = "fill='none' stroke='var(--ink-2)' stroke-width='1.5'"
    if turns:
        begin, below = x + _BOX_WIDTH // 2, y + _BOX_HEIGHT
        end, middle = _BOX_WIDTH // 2, y + _BOX_HEIGHT + _GAP // 2
        tip = y + _BOX_HEIGHT + _GAP
        line = f"<path d='M{begin} {below} V{middle} H{end} V{tip - 6}' {style}/>"
        return line + f"<path d='M{end - 5} {tip - 8} L{end} {tip} L{end + 5} {tip - 8}Z' fill='var(--ink-2)'/>"
    left, at = x + _BOX_WIDTH, y + _BOX_HEIGHT // 2
    tip = left + _GAP
    line = f"<path d='M{left} {at} H{tip - 6}' {style}/>"
    return line + f"<path d='M{tip - 8} {at - 5} L{tip} {at} L{tip - 8} {at + 5}Z' fill='var(--ink-2)'/>"


def _table(header: list[str], rows: list[list[str]], left: int = 1) -> str:
    def cells(tag: str, row: list[str]) -> str:
        return "".join(f"<{tag}{' class=left' if i < left else ''}>{cell}</{tag}>" for i, cell in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{cells('th', header)}</tr></thead><tbody>{body}</tbody></table></div>"


def _layers(rows: list[dict[str, Any]]) -> str:
    numbers = ("cycles", "LUT, estimated", "BRAM, estimated", "LUT", "FF", "BRAM", "DSP")
    kinds = ("predicted", "estimate", "estimate", "cells", "cells", "cells", "cells")
    header = [
        "layer",
        "what",
        "PE",
        "SIMD",
        *(f"{n}<br><small>{k}</small>" for n, k in zip(numbers, kinds, strict=True)),
    ]
    body = [
        [escape(row["layer"]), escape(row["what"]), str(row.get("pe", "")), str(row.get("simd", ""))]
        + [_text(row.get(name)) for name in numbers]
        for row in rows
    ]
    return _table(header, body, 2)


def _totals(found: dict[str, Any]) -> str:
    rows = []
    for name, number in (found["totals"] | found["accuracy"]).items():
        of = f" of {number['of']:,}" if number.get("of") else ""
        rows.append([escape(name), escape(number["kind"]), _text(number) + of])
    return _table(["", "kind of number", ""], rows, 2)


def _simulations(runs: list[dict[str, Any]]) -> str:
    rows = [
        [
            escape(run["simulator"]),
            "at random" if run["stalls"] else "none",
            f"{run['vectors']:,}",
            str(run["wrong"]),
            f"{run['interval']:,.1f}",
            f"{run['latency']:,}",
        ]
        for run in runs
    ]
    return _table(["simulator", "stalls", "vectors", "wrong", "cycles an inference", "latency, cycles"], rows, 2)


def _tools(found: dict[str, Any]) -> str:
    versions = "".join(f"<li>{escape(name)} {escape(version)}</li>" for name, version in found["tools"].items())
    rows = [[escape(name), f"{used['seconds']:,.1f}", f"{used['megabytes']:,}"] for name, used in found["used"].items()]
    return f"<ul>{versions}</ul>" + _table(["run", "seconds", "MB"], rows)


def _text(number: dict[str, Any] | None) -> str:
    return escape(text(number))

"""The Verilog of a parallel design: a module for each stage, the head, and a top with the handshake."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from bnnapps.export.fpga.generate import Design
from bnnapps.export.fpga.memory import number_rows, rank_bits
from bnnapps.export.fpga.parallel.logic import FALSE, Literal, Logic, compress
from bnnapps.export.fpga.parallel.network import Bits, Comparators, Counts, Neurons, Parallel, Stage, Tables

LOADER = "bnn_load.v"
SHELL = ("bnn_stream.v", "bnn_flow.v", LOADER)
PINS = 64
"""Data bits of the beats that the loader takes, where a design is placed and routed."""


@dataclass(frozen=True)
class Part:
    """One module.

    Attributes:
        name: of its instance in the top.
        text: Verilog.
        outputs: bits that it gives.
        latency: registers from its input to its output.
        gates: functions of two or three bits, or of a table's inputs, that it is made of; an upper bound of LUT4s.
        registers: bits that it keeps.

    """

    name: str
    text: str
    outputs: int
    latency: int
    gates: int
    registers: int


@dataclass(frozen=True)
class Parts:
    """A whole design.

    Attributes:
        design: its files.
        parts: in the order of the stream.
        latency: cycles from an input to its result, at the other end of the FIFO.

    """

    design: Design
    parts: tuple[Part, ...]
    latency: int

    @property
    def gates(self) -> int:
        """Of all modules."""
        return sum(part.gates for part in self.parts)


def generate_parallel(network: Parallel, scores: bool = True, levels: int = 2, lut_inputs: int = 4) -> Parts:
    """The Verilog of a network.

    Args:
        network: the parallel form.
        scores: hand out the counts beside the class.
        levels: of full adders between registers; comparators and tables have one behind each layer.
        lut_inputs: of the target's lookup tables, for the estimate.

    """
    parts, width = [], network.width
    for number, stage in enumerate(network.stages):
        part = _stage(f"layer{number}", stage, width, levels, lut_inputs)
        parts.append(part)
        width = part.outputs
    most = network.counts.terms.shape[1]
    score_bits = max(1, most.bit_length())
    parts.append(_counts(f"layer{len(network.stages)}", network.counts, width, score_bits, levels))
    parts.append(_head(network, score_bits))
    classes = network.head.classes
    class_bits = max(1, (classes - 1).bit_length())
    pipeline = sum(part.latency for part in parts)
    root = files("bnnapps.export.fpga").joinpath("rtl")
    texts = {name: root.joinpath(name).read_text("utf-8") for name in SHELL}
    texts["top.v"] = _top(network, parts, pipeline, class_bits, classes * score_bits, scores)
    texts["pins.v"] = _pins(network.width, class_bits, classes * score_bits if scores else 1)
    design = Design(texts, network.width, 1, class_bits, score_bits, classes, scores)
    return Parts(design, tuple(parts), pipeline + 2)


# Stages


def _stage(name: str, stage: Stage, width: int, levels: int, lut_inputs: int) -> Part:
    if isinstance(stage, Comparators):
        return _comparators(name, stage, width)
    if isinstance(stage, Tables):
        return _tables(name, stage, width, lut_inputs)
    return _neurons(name, stage, width, levels)


def _comparators(name: str, stage: Comparators, width: int) -> Part:
    lines = []
    for number, (feature, level) in enumerate(zip(stage.feature, stage.level, strict=True)):
        bits = [f"x[{int(feature) * stage.bits + i}]" for i in range(stage.bits)]
        lines.append(f"    y[{number}] <= {at_least(bits, int(level))};")
    text = _module(name, width, stage.outputs, [], lines)
    gates = sum(_comparison_gates(int(level), stage.bits) for level in stage.level)
    return Part(name, text, stage.outputs, 1, gates, stage.outputs)


def _comparison_gates(level: int, bits: int) -> int:
    """Lookup tables of 4 inputs of a comparison: each takes three bits and what is below them."""
    if not 0 < level < 1 << bits:
        return 0
    lowest = (level & -level).bit_length() - 1
    return -(-(bits - 1 - lowest) // 3)


def at_least(bits: list[str], level: int) -> str:
    """Whether the number of these bits, the lowest first, is at least the level: one gate a bit at most.

    From the highest bit down: where the level has a 1 the bit must be high and the rest enough, where it has a 0 one of
    them is enough. Below the lowest 1 of the level nothing counts.
    """
    if level <= 0:
        return "1'b1"
    if level >= 1 << len(bits):
        return "1'b0"
    lowest = (level & -level).bit_length() - 1
    found = bits[lowest]
    for place in range(lowest + 1, len(bits)):
        found = f"({bits[place]} {'&' if level >> place & 1 else '|'} {found})"
    return found


def _tables(name: str, stage: Tables, width: int, lut_inputs: int) -> Part:
    lines = [
        f"    y[{number}] <= {table_text(tuple(table.tolist()), [f'x[{int(w)}]' for w in wires])};"
        for number, (wires, table) in enumerate(zip(stage.wires, stage.table, strict=True))
    ]
    each = max(1, stage.table.shape[1] >> lut_inputs)
    return Part(
        name, _module(name, width, stage.outputs, [], lines), stage.outputs, 1, each * stage.outputs, stage.outputs
    )


def table_text(table: tuple[bool, ...], inputs: list[str]) -> str:
    """A truth table as an expression: its two halves, chosen by the last input (Shannon's expansion).

    Halves that are equal, constant or each other's inverse take no choice.
    """
    if not any(table):
        return "1'b0"
    if all(table):
        return "1'b1"
    *rest, x = inputs
    low, high = table[: len(table) // 2], table[len(table) // 2 :]
    if low == high:
        return table_text(low, rest)
    if high == tuple(not bit for bit in low):
        return x if not any(low) else f"~{x}" if all(low) else f"({x} ^ {table_text(low, rest)})"
    if not any(low):
        return f"({x} & {table_text(high, rest)})"
    if not any(high):
        return f"(~{x} & {table_text(low, rest)})"
    if all(low):
        return f"(~{x} | {table_text(high, rest)})"
    if all(high):
        return f"({x} | {table_text(low, rest)})"
    return f"({x} ? {table_text(high, rest)} : {table_text(low, rest)})"


def _neurons(name: str, stage: Neurons, width: int, levels: int) -> Part:
    logic = Logic(width)
    trees = [[[logic.input(i, bool(w < 0)) for i, w in enumerate(row)]] for row in stage.weight]
    counts, latency, added = _sums(logic, trees, levels)
    lines = [
        f"    y[{number}] <= {at_least([f'{count}[{i}]' for i in range(bits)], int(stage.least[number]))};"
        for number, (count, bits) in enumerate(counts)
    ]
    text = _module(name, width, stage.outputs, logic.lines, [*logic.updates, *lines])
    gates = logic.gates + added + 2 * stage.outputs
    return Part(name, text, stage.outputs, latency + 1, gates, logic.registers + added + stage.outputs)


def _counts(name: str, counts: Counts, width: int, bits: int, levels: int) -> Part:
    logic = Logic(width)
    trees = [
        [[logic.input(int(i), bool(flip)) for i, flip in zip(terms, inverted, strict=True)]]
        for terms, inverted in zip(counts.terms, counts.inverted, strict=True)
    ]
    found, latency, added = _sums(logic, trees, levels)
    joined = ", ".join(f"{{{bits - w}'d0, {one}}}" if w < bits else f"{one}[{bits - 1}:0]" for one, w in found[::-1])
    body = [*logic.lines, f"  assign y = {{{joined}}};"]
    text = _module(name, width, bits * len(found), body, logic.updates, wire=True)
    return Part(name, text, bits * len(found), latency, logic.gates + added, logic.registers + added)


def _sums(logic: Logic, trees: list[list[list[Literal]]], levels: int) -> tuple[list[tuple[str, int]], int, int]:
    """The name and width of the sum of each tree; how many cycles later; bits of the last adders."""
    trees, latency = compress(logic, trees, levels)
    found, added = [], 0
    for number, tree in enumerate(trees):
        bits = len(tree) + 1
        rows = [[column[i] if i < len(column) else FALSE for column in tree] for i in (0, 1)]
        logic.lines.append(f"  reg [{bits - 1}:0] sum{number};")
        logic.updates.append(f"    sum{number} <= {logic.vector(rows[0])} + {logic.vector(rows[1])};")
        found.append((f"sum{number}", bits))
        added += bits
    return found, latency + 1, added


# The head and the top


def _head(network: Parallel, bits: int) -> Part:
    """Compare the counts, or what ranks make of them, two by two; the first of equals stays."""
    head, classes = network.head, network.head.classes
    class_bits = max(1, (classes - 1).bit_length())
    body, updates = [], []
    latency, key = 0, bits
    best = [(f"x[{c * bits + bits - 1}:{c * bits}]", f"{class_bits}'d{c}") for c in range(classes)]
    delayed = "x"
    if head.ranks is not None:
        key, latency = rank_bits(head), 1
        for c in range(classes):
            rom = number_rows(head.ranks[c], len(head.ranks[c]), key)[0]
            body.append(f"  localparam [{len(rom) - 1}:0] R{c} = {len(rom)}'h{_hex(rom)};")
            body.append(f"  reg [{key - 1}:0] k{c};")
            updates.append(f"    k{c} <= R{c}[{best[c][0]}*{key} +: {key}];")
        best = [(f"k{c}", f"{class_bits}'d{c}") for c in range(classes)]
        delayed = _delay(body, updates, delayed, classes * bits, latency)
    while len(best) > 1:
        latency += 1
        after = []
        for number in range(0, len(best) - 1, 2):
            (ka, ca), (kb, cb) = best[number], best[number + 1]
            name = f"{latency}_{number // 2}"
            body.append(f"  wire later{name} = {kb} > {ka};")
            body.append(f"  reg [{key - 1}:0] key{name};\n  reg [{class_bits - 1}:0] class{name};")
            updates.append(f"    key{name} <= later{name} ? {kb} : {ka};")
            updates.append(f"    class{name} <= later{name} ? {cb} : {ca};")
            after.append((f"key{name}", f"class{name}"))
        if len(best) % 2:
            last, its_class = best[-1]
            body.append(f"  reg [{key - 1}:0] key{latency}_l;\n  reg [{class_bits - 1}:0] class{latency}_l;")
            updates.append(f"    key{latency}_l <= {last};\n    class{latency}_l <= {its_class};")
            after.append((f"key{latency}_l", f"class{latency}_l"))
        best = after
        delayed = _delay(body, updates, delayed, classes * bits, latency)
    outputs = classes * bits + class_bits
    body.append(f"  assign y = {{{delayed}, {best[0][1]}}};")
    text = _module("head", classes * bits, outputs, body, updates, wire=True)
    gates = sum(3 * key + class_bits for _ in range(classes - 1))
    return Part("head", text, outputs, latency, gates, latency * classes * bits)


def _delay(body: list[str], updates: list[str], name: str, width: int, stage: int) -> str:
    body.append(f"  reg [{width - 1}:0] scores{stage};")
    updates.append(f"    scores{stage} <= {name};")
    return f"scores{stage}"


def _hex(row: Bits) -> str:
    return f"{sum(1 << i for i, bit in enumerate(row) if bit):x}"


def _module(name: str, inputs: int, outputs: int, body: list[str], updates: list[str], wire: bool = False) -> str:
    kind = "wire" if wire else "reg "
    clocked = ["  always @(posedge clk) begin", *updates, "  end"] if updates else []
    head = f"module {name}_m (\n  input  wire clk,\n  input  wire [{inputs - 1}:0] x,\n"
    # Of the names that a wire has in a flat netlist Yosys keeps the one with the most attributes: that of its maker.
    head += f'  (* part = "{name}" *) output {kind} [{outputs - 1}:0] y\n);'
    return "\n".join([head, *body, *clocked, "endmodule\n"])


def _top(network: Parallel, parts: list[Part], pipeline: int, class_bits: int, score_bits: int, scores: bool) -> str:
    # As many places as inferences can be under way: the pipeline, the FIFO's own two steps, the count of places.
    log = max(2, (pipeline + 4).bit_length())
    kept = class_bits + (score_bits if scores else 0)
    chain, wire = [], "s_data"
    for part in parts:
        chain.append(f"  wire [{part.outputs - 1}:0] {part.name}_y;")
        chain.append(f"  {part.name}_m {part.name} (.clk(clk), .x({wire}), .y({part.name}_y));")
        wire = f"{part.name}_y"
    handed = f"held[{kept - 1}:{class_bits}]" if scores else "1'b0"
    body = "\n".join(chain)
    modules = "\n".join(part.text for part in parts)
    return f"""\
// {" ".join(network.name.split())}: generated by bnnapps, one inference a cycle; it needs the library bnn_*.v.
`default_nettype none
{modules}
module top (
  input  wire clk,
  input  wire rst,
  input  wire s_valid,
  output wire s_ready,
  input  wire [{network.width - 1}:0] s_data,
  output wire m_valid,
  input  wire m_ready,
  output wire [{class_bits - 1}:0] m_class,
  output wire [{score_bits - 1 if scores else 0}:0] m_scores
);
  wire [{kept - 1}:0] held;
{body}
  bnn_flow #(.W({kept}), .LATENCY({pipeline}), .LOG({log})) flow (
    .clk(clk), .rst(rst), .in_valid(s_valid), .in_ready(s_ready), .result({wire}[{kept - 1}:0]),
    .out_valid(m_valid), .out_ready(m_ready), .out_data(held));
  assign m_class = held[{class_bits - 1}:0];
  assign m_scores = {handed};
endmodule
`default_nettype wire
"""


def _pins(width: int, class_bits: int, score_bits: int) -> str:
    beats = -(-width // PINS)
    return f"""\
// What is placed and routed: beats of {PINS} bits fill a register of a whole input in front of the parallel design.
`default_nettype none
module pins (
  input  wire clk,
  input  wire rst,
  input  wire s_valid,
  output wire s_ready,
  input  wire [{PINS - 1}:0] s_data,
  output wire m_valid,
  input  wire m_ready,
  output wire [{class_bits - 1}:0] m_class,
  output wire [{score_bits - 1}:0] m_scores
);
  wire valid, ready;
  wire [{beats * PINS - 1}:0] data;
  bnn_load #(.B({PINS}), .R({beats})) loader (
    .clk(clk), .rst(rst), .in_valid(s_valid), .in_ready(s_ready), .in_data(s_data),
    .out_valid(valid), .out_ready(ready), .out_data(data));
  top core (
    .clk(clk), .rst(rst), .s_valid(valid), .s_ready(ready), .s_data(data[{width - 1}:0]),
    .m_valid(m_valid), .m_ready(m_ready), .m_class(m_class), .m_scores(m_scores));
endmodule
`default_nettype wire
"""

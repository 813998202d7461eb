"""Handshakes proved with Yosys' solver: for all inputs and stalls, not for those that a test thinks of.

Words are numbered as they go in; units do not look at them, so what holds for numbers holds for data. A unit's
properties stand inside it, with what they need to be inductive (from any state that keeps them, one cycle leads to one
that keeps them); the parallel shell and the loader, which are made of several units, are searched to a depth in which
their places fill and empty.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bnnapps.errors import ExportError
from bnnapps.export.fpga.tools.yosys import run_yosys

pytest.importorskip("pyosys")
RTL = Path(__file__).parents[2] / "export" / "fpga" / "rtl"

RESET = """
  reg begun = 1'b0;
  always @(posedge clk) begun <= 1'b1;
  always @* assume (rst == !begun);
"""

STABLE = """
  reg held = 1'b0;
  reg [{width}-1:0] kept;
  always @(posedge clk) begin
    held <= !rst && out_valid && !out_ready;
    kept <= out_data;
  end
  always @* if (held) assert (out_valid && out_data == kept);
"""

PROPERTIES = {
    # Whoever pushes has counted the places, in the memory and in the output register.
    "bnn_fifo": """
  reg [W-1:0] ins, outs;
  wire [LOG:0] words = wp - rp;
  wire [W-1:0] inside = ins - outs;
  integer i;
  always @(posedge clk) begin
    if (rst) begin ins <= 0; outs <= 0; end
    else begin
      ins <= ins + push;
      outs <= outs + (out_valid && out_ready);
    end
  end
  always @* begin
    assume (in_data == ins);
    assume (!push || inside < (1 << LOG));
    if (begun && !rst) begin
      assert (words <= (1 << LOG) && inside <= (1 << LOG));
      assert (inside == words + out_valid);
      if (out_valid) assert (out_data == outs);
      for (i = 0; i < (1 << LOG); i = i + 1)
        if (((i - rp) & ((1 << LOG) - 1)) < words)
          assert (mem[i] == ((outs + out_valid + ((i - rp) & ((1 << LOG) - 1))) & ((1 << W) - 1)));
    end
  end
""",
    "bnn_credit": """
  reg [LOG:0] taken;
  always @(posedge clk) begin
    if (rst) taken <= 0;
    else taken <= taken + take - give;
  end
  always @* begin
    assume (!take || ok);
    assume (!give || taken != 0);
    if (begun && !rst) begin
      assert (taken <= (1 << LOG) && n + taken == (1 << LOG));
      assert (ok == (n != 0));
    end
  end
""",
    "bnn_widen": """
  reg [A-1:0] ins;
  reg [1:0] some;
  integer i;
  always @(posedge clk) begin
    if (rst) begin ins <= 0; some <= 0; end
    else if (in_valid && in_ready) begin ins <= ins + 1'b1; some <= some == R - 1 ? 2'd0 : some + 1'b1; end
  end
  always @* begin
    assume (in_data == ins);
    if (begun && !rst) begin
      assert (n == some && n < R && !(out_valid && n != 0));
      for (i = 0; i < R; i = i + 1)
        if (out_valid || i < n)
          assert (out_data[(R-1-i)*A +: A] == ((ins - 1 - i) & ((1 << A) - 1)));
    end
  end
""",
    "bnn_narrow": """
  reg [A-1:0] ins, outs;
  integer i;
  always @(posedge clk) begin
    if (rst) begin ins <= 0; outs <= 0; end
    else begin
      if (in_valid && in_ready) ins <= ins + R;
      if (out_valid && out_ready) outs <= outs + 1'b1;
    end
  end
  always @* begin
    for (i = 0; i < R; i = i + 1)
      assume (in_data[i*A +: A] == ((ins + i) & ((1 << A) - 1)));
    if (begun && !rst) begin
      assert (left <= R && ins - outs == left);
      for (i = 0; i < R; i = i + 1)
        if (i < left) assert (sh[i*A +: A] == ((outs + i) & ((1 << A) - 1)));
    end
  end
""",
}
UNITS = {
    "bnn_fifo": ("-chparam W 4 -chparam LOG 2", "W"),
    "bnn_credit": ("-chparam LOG 2", None),
    "bnn_widen": ("-chparam A 4 -chparam R 3", "R*A"),
    "bnn_narrow": ("-chparam A 4 -chparam R 3", "A"),
}

# The shell around a pipeline of two registers, and the loader of three beats: numbers in, the same numbers out.
FLOW = """
module check (input wire clk, input wire rst, input wire in_valid, input wire out_ready);
  localparam W = 4;
  wire in_ready, out_valid;
  wire [W-1:0] out_data;
  reg [W-1:0] ins, outs, first, second;
  bnn_flow #(.W(W), .LATENCY(2), .LOG(2)) unit (
    .clk(clk), .rst(rst), .in_valid(in_valid), .in_ready(in_ready), .result(second),
    .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));
  always @(posedge clk) begin
    first <= ins; second <= first;
    if (rst) begin ins <= 0; outs <= 0; end
    else begin
      ins <= ins + (in_valid && in_ready);
      outs <= outs + (out_valid && out_ready);
    end
  end
  always @* begin
    if (begun && !rst) begin
      assert (((ins - outs) & 15) <= 4);
      if (out_valid) assert (out_data == outs && ins != outs);
    end
  end
"""
LOAD = """
module check (input wire clk, input wire rst, input wire in_valid, input wire out_ready);
  localparam B = 4, R = 3;
  wire in_ready, out_valid;
  wire [R*B-1:0] out_data;
  reg [B-1:0] ins, outs;
  bnn_load #(.B(B), .R(R)) unit (
    .clk(clk), .rst(rst), .in_valid(in_valid), .in_ready(in_ready), .in_data(ins),
    .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));
  integer i;
  always @(posedge clk) begin
    if (rst) begin ins <= 0; outs <= 0; end
    else begin
      ins <= ins + (in_valid && in_ready);
      if (out_valid && out_ready) outs <= outs + R;
    end
  end
  always @* begin
    if (begun && !rst) begin
      assert (((ins - outs) & 15) <= R);
      for (i = 0; i < R; i = i + 1)
        if (out_valid) assert (out_data[i*B +: B] == ((outs + i) & 15));
      if (out_valid) assert (((ins - outs) & 15) == R);
    end
  end
"""


def prove(text: str, top: str, how: str, folder: Path) -> None:
    (folder / "unit.v").write_text(text, encoding="utf-8")
    commands = ["read_verilog -formal unit.v", f"hierarchy -check -top {top}", "proc", "flatten", "opt_clean"]
    commands += ["memory -nomap", "memory_map", "async2sync", "dffunmap", "opt_clean"]
    run_yosys([*commands, f"sat {how} -prove-asserts -set-assumes -verify"], folder, "proof", "a proof")


def unit_text(unit: str, change: tuple[str, str] | None = None) -> str:
    source = (RTL / "bnn_stream.v").read_text(encoding="utf-8")
    found = re.search(rf"module {unit}\b.*?endmodule", source, re.DOTALL)
    assert found is not None
    text = found[0]
    if change is not None:
        assert change[0] in text
        text = text.replace(*change)
    width = UNITS[unit][1]
    more = RESET + PROPERTIES[unit] + ("" if width is None else STABLE.format(width=width))
    return text.replace("endmodule", more + "endmodule\n")


def prove_unit(unit: str, folder: Path, change: tuple[str, str] | None = None) -> None:
    text = unit_text(unit, change)
    prove(text, f"{unit} {UNITS[unit][0]}", "-tempinduct -maxsteps 4", folder)


@pytest.mark.parametrize("unit", UNITS)
def test_streams_lose_double_and_reorder_nothing(unit: str, tmp_path: Path) -> None:
    prove_unit(unit, tmp_path)


@pytest.mark.parametrize(
    ("unit", "change"),
    [
        (
            "bnn_fifo",
            ("if (move) begin\n        out_valid <= some;", "if (move) begin\n        out_valid <= some || push;"),
        ),
        ("bnn_credit", ("ok <= next != 0;", "ok <= n != 0;")),
        ("bnn_widen", ("!out_valid || out_ready", "1'b1")),
        ("bnn_narrow", ("left == 1 && out_ready", "left == 1")),
    ],
)
def test_a_unit_with_a_defect_is_found_out(unit: str, change: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="proof did fail"):
        prove_unit(unit, tmp_path, change)


def search_shell(checks: str, folder: Path, change: tuple[str, str] | None = None) -> None:
    """All that 14 cycles from reset can bring."""
    library = "".join((RTL / name).read_text(encoding="utf-8") for name in ("bnn_stream.v", "bnn_flow.v", "bnn_load.v"))
    if change is not None:
        assert library.count(change[0]) == 1
        library = library.replace(*change)
    width = "W" if "W = 4" in checks else "R*B"
    text = library + checks.replace("  always", RESET + "  always", 1) + STABLE.format(width=width) + "endmodule\n"
    how = "-seq 1 -tempinduct-baseonly -tempinduct -maxsteps 14"
    prove(text.replace("`default_nettype none", ""), "check", how, folder)


@pytest.mark.parametrize("checks", [FLOW, LOAD])
def test_the_shell_of_parallel_designs(checks: str, tmp_path: Path) -> None:
    search_shell(checks, tmp_path)


@pytest.mark.parametrize(
    ("checks", "change"),
    [
        # a place is given back before its result has left: more are under way than there are places
        (FLOW, (".give(out_valid && out_ready)", ".give(out_valid)")),
        # a result is kept a cycle before the pipeline has it
        (FLOW, ("under_way[LATENCY-1]", "under_way[LATENCY-2]")),
        # an input that is not taken sets out too
        (FLOW, ("{under_way, take}", "{under_way, in_valid}")),
        # beats are taken while a whole word waits
        (LOAD, ("else if (leaves) in_ready <= 1'b1;", "else in_ready <= 1'b1;")),
        # a word is shown before its last beat is in it
        (LOAD, ("if (place[R-1]) out_valid", "if (ring[R-1]) out_valid")),
        # what is no beat is kept too
        (LOAD, ("place <= take ? ring : {R{1'b0}};", "place <= ring;")),
    ],
)
def test_a_shell_with_a_defect_is_found_out(checks: str, change: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="proof did fail"):
        search_shell(checks, tmp_path, change)

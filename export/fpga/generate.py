"""The generated part of a design: the top module, and the memories that it reads. The library is static."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files

from bnnapps.export.fpga.folding import Fold, Folding, check_folding
from bnnapps.export.fpga.layers import EIGHT_BITS, Compute, Conv, Network, Pool
from bnnapps.export.fpga.memory import (
    hexadecimal,
    number_rows,
    rank_bits,
    side_by_side,
    starts,
    sum_bits,
    weight_rows,
    words_a_row,
)

LIBRARY = ("bnn_stream.v", "bnn_mac.v", "bnn_dense.v", "bnn_conv.v", "bnn_pool.v", "bnn_head.v")
_PIPELINE = 10


@dataclass(frozen=True)
class Design:
    """Files by name, and the ports that a test bench needs to know.

    Attributes:
        files: Verilog and memory files.
        beat_bits: bits of an input beat.
        beats: input beats of one inference.
        class_bits: bits of the class.
        score_bits: bits of one sum of the last layer.
        classes: how many there are.
        scores: whether the sums are handed out.

    """

    files: dict[str, str]
    beat_bits: int
    beats: int
    class_bits: int
    score_bits: int
    classes: int
    scores: bool


def library(design: Design) -> list[str]:
    """The files of the library that a design needs."""
    return [name for name in design.files if name.startswith("bnn_") and name.endswith(".v")]


def generate(network: Network, folding: Folding, scores: bool = True) -> Design:
    """The Verilog of a network.

    Args:
        network: the hardware layers.
        folding: of each layer with weights.
        scores: hand out the sums of the last layer beside the class.

    Raises:
        UsageError: a folding that does not fit.

    """
    check_folding(network, folding)
    top = _Top(network, folding, scores)
    return top.design()


class _Top:
    """Writes instance after instance, each fed by the one before."""

    def __init__(self, network: Network, folding: Folding, scores: bool) -> None:
        self.network, self.folding, self.scores = network, folding, scores
        self.files = {name: files("bnnapps.export.fpga").joinpath("rtl", name).read_text("utf-8") for name in LIBRARY}
        self.lines: list[str] = []
        first = network.compute[0]
        self.beat = folding[first.name].simd * first.bits
        self.wire, self.width = "s", self.beat

    def design(self) -> Design:
        network = self.network
        for number, layer in enumerate(network.layers):
            if isinstance(layer, Pool):
                self._pool(layer, number)
            else:
                self._compute(layer, number)
        self._head()
        first = network.compute[0]
        codes = math.prod(network.input.shape)
        classes, score_bits = network.head.classes, sum_bits(network.compute[-1])
        class_bits = max(1, (classes - 1).bit_length())
        self.files["top.v"] = _top_text(
            network.name, self.beat, class_bits, classes * score_bits if self.scores else 1, self.lines
        )
        beats = codes // self.folding[first.name].simd
        return Design(self.files, self.beat, beats, class_bits, score_bits, classes, self.scores)

    def _compute(self, layer: Compute, number: int) -> None:
        fold = self.folding[layer.name]
        self._fit(fold.simd * layer.bits, number)
        width = sum_bits(layer)
        steps, groups = layer.terms // fold.simd, layer.outputs // fold.pe
        parameters: dict[str, int | str] = {"PE": fold.pe, "SIMD": fold.simd, "XB": layer.bits, "NF": groups}
        parameters |= {"AW": width, "LOG": _fifo_log(layer, fold, steps)}
        weights = f"layer{number}_weight.mem"
        words = words_a_row(layer, fold)
        self.files[weights] = hexadecimal(side_by_side(weight_rows(layer, fold), words))
        if words > 1:
            parameters["WK"] = words
        parameters["WFILE"] = f'"{weights}"'
        if layer.threshold is not None:
            thresholds = f"layer{number}_start.mem"
            self.files[thresholds] = hexadecimal(number_rows(starts(layer), fold.pe, width))
            parameters["TFILE"] = f'"{thresholds}"'
        if isinstance(layer, Conv):
            parameters |= _conv_parameters(layer, fold)
            self._instance("bnn_conv", f"layer{number}", parameters, fold.pe, layer.name)
            return
        parameters |= {"SF": steps, "THRESH": int(layer.threshold is not None)}
        out = fold.pe * (1 if layer.threshold is not None else width)
        self._instance("bnn_dense", f"layer{number}", parameters, out, layer.name)

    def _pool(self, pool: Pool, number: int) -> None:
        parameters: dict[str, int | str] = {"B": self.width, "CS": pool.channels // self.width}
        parameters |= {"W": pool.size[1], "H": pool.size[0], "KX": pool.window[1], "KY": pool.window[0]}
        self._instance("bnn_pool", f"layer{number}", parameters, self.width, pool.name)

    def _head(self) -> None:
        head, width = self.network.head, sum_bits(self.network.compute[-1])
        self._fit(width, len(self.network.layers))
        key = rank_bits(head)
        parameters: dict[str, int | str] = {"N": head.classes, "AW": width, "VALUES": head.terms + 1}
        parameters |= {"RANKED": int(head.ranks is not None), "KW": width if head.ranks is None else key}
        parameters["SCORES"] = int(self.scores)
        if head.ranks is not None:
            self.files["head_rank.mem"] = hexadecimal(number_rows(head.ranks.reshape(-1), 1, key))
            parameters["RFILE"] = '"head_rank.mem"'
        ports = [
            *_ports({"in": self.wire}),
            ".out_valid(m_valid)",
            ".out_ready(m_ready)",
            ".out_class(m_class)",
            ".out_scores(m_scores)",
        ]
        self.lines.append(_instance_text("bnn_head", "head", parameters, ports))

    def _fit(self, width: int, number: int) -> None:
        """Let beats have another width."""
        both = math.lcm(self.width, width)
        if both > self.width:
            self._instance(
                "bnn_widen", f"wide{number}", {"A": self.width, "R": both // self.width}, both, "wider beats"
            )
        if both > width:
            self._instance("bnn_narrow", f"narrow{number}", {"A": width, "R": both // width}, width, "narrower beats")

    def _instance(self, module: str, name: str, parameters: dict[str, int | str], width: int, comment: str) -> None:
        self.lines.append(f"  // {' '.join(comment.split())}")
        self.lines.append(f"  wire {name}_valid, {name}_ready;\n  wire [{width - 1}:0] {name}_data;")
        ports = _ports({"in": self.wire, "out": name})
        self.lines.append(_instance_text(module, name, parameters, ports))
        self.wire, self.width = name, width


def _conv_parameters(layer: Conv, fold: Fold) -> dict[str, int | str]:
    rows, columns = layer.out_size
    return {
        "CS": layer.channels // fold.simd,
        "W": layer.size[1],
        "H": layer.size[0],
        "KW": layer.kernel[1],
        "KH": layer.kernel[0],
        "SX": layer.stride[1],
        "SY": layer.stride[0],
        "PL": layer.pads[1],
        "PT": layer.pads[0],
        "OW": columns,
        "OH": rows,
        "PAD": {1: 1, 0: 0, -1: 2}[layer.pad_value],
    }


def _fifo_log(layer: Compute, fold: Fold, steps: int) -> int:
    """As many places as results can be under way: the pipeline's length over the cycles of a result."""
    values = fold.simd if layer.bits == EIGHT_BITS else -(-fold.simd // 4)
    length = _PIPELINE + 1 + max(0, (values - 1).bit_length())
    log = 3
    while (1 << log) * steps < length:
        log += 1
    return log


def _ports(streams: dict[str, str]) -> list[str]:
    return [f".{side}_{signal}({name}_{signal})" for side, name in streams.items() for signal in _SIGNALS]


_SIGNALS = ("valid", "ready", "data")


def _instance_text(module: str, name: str, parameters: dict[str, int | str], ports: list[str]) -> str:
    given = ", ".join(f".{key}({value})" for key, value in parameters.items())
    return f"  {module} #({given})\n    {name} (.clk(clk), .rst(rst), {', '.join(ports)});"


def _top_text(name: str, beat: int, class_bits: int, score_bits: int, lines: list[str]) -> str:
    body = "\n".join(lines)
    return f"""\
// {" ".join(name.split())}: generated by bnnapps from the integer form of the network; it needs the library bnn_*.v.
`default_nettype none
module top (
  input  wire clk,
  input  wire rst,
  input  wire s_valid,
  output wire s_ready,
  input  wire [{beat - 1}:0] s_data,
  output wire m_valid,
  input  wire m_ready,
  output wire [{class_bits - 1}:0] m_class,
  output wire [{score_bits - 1}:0] m_scores
);
{body}
endmodule
`default_nettype wire
"""

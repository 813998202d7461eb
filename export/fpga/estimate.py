"""Estimates of what a layer takes, before any tool runs: fitted to synthesised cells of ECP5 (docs/results/fpga.md)."""

from __future__ import annotations

from dataclasses import dataclass

from bnnapps.export.fpga.devices import Device
from bnnapps.export.fpga.folding import Fold, Folding, line_rows
from bnnapps.export.fpga.layers import EIGHT_BITS, Compute, Conv, Network
from bnnapps.export.fpga.memory import rank_bits, sum_bits, words_a_row


@dataclass(frozen=True)
class Estimate:
    """An estimate.

    Attributes:
        luts: lookup tables.
        brams: block memories.

    """

    luts: int
    brams: int


_SMALL = 2048
"""Memories of fewer bits for each block that they would take become lookup tables."""


def memory(bits: int, depth: int, device: Device) -> Estimate:
    """A memory of `depth` words: block memories if it fills them somewhat, else lookup tables of 16 bits each."""
    words, halvings = max(1, device.bram_bits // device.bram_width), device.bram_width.bit_length()
    # half the width, twice the depth
    blocks = min(-(-bits // (device.bram_width >> k)) * -(-depth // (words << k)) for k in range(halvings))
    if bits * depth < _SMALL or depth < 24:
        return Estimate(-(-bits * depth // (16 if device.lut_inputs == 4 else 64)), 0)
    return Estimate(0, blocks)


def estimate_layer(layer: Compute, fold: Fold, device: Device) -> Estimate:
    """Products, sums and thresholds of PE neurons, weights, and the buffer in front."""
    values = fold.simd if layer.bits == EIGHT_BITS else -(-fold.simd // 4)
    width = sum_bits(layer)
    product = 9.0 * fold.simd if layer.bits == EIGHT_BITS else 1.75 * fold.simd
    tree = values * (layer.bits + 2.0 if layer.bits == EIGHT_BITS else 4.5)
    logic = fold.pe * (product + tree + 2.2 * width + 4)
    steps, groups = layer.terms // fold.simd, layer.outputs // fold.pe
    control = 410.0 if isinstance(layer, Conv) else 70.0
    beside = words_a_row(layer, fold)
    weights = memory(beside * fold.pe * fold.simd, -(-steps * groups // beside), device)
    if beside > 1:  # one word of a row is chosen
        logic += 0.7 * beside * fold.pe * fold.simd
    parts = [weights, memory(fold.pe * width, groups, device)]
    word = fold.simd * layer.bits
    if isinstance(layer, Conv):
        parts.append(memory(word, line_rows(layer) * layer.size[1] * layer.channels // fold.simd, device))
    else:
        parts.append(memory(word, 2 * steps, device))
    if device.lut_inputs == 6:
        logic *= 0.75
    return Estimate(round(logic + control) + sum(p.luts for p in parts), sum(p.brams for p in parts))


def estimate(network: Network, folding: Folding, device: Device) -> dict[str, Estimate]:
    """An estimate for each layer with weights, and for the head."""
    found = {layer.name: estimate_layer(layer, folding[layer.name], device) for layer in network.compute}
    head = network.head
    table = Estimate(0, 0)
    if head.ranks is not None:
        table = memory(rank_bits(head), head.classes * (head.terms + 1), device)
    found["head"] = Estimate(60 + 3 * sum_bits(network.compute[-1]) + table.luts, table.brams)
    return found


def total(parts: dict[str, Estimate]) -> Estimate:
    """The sum."""
    return Estimate(sum(p.luts for p in parts.values()), sum(p.brams for p in parts.values()))

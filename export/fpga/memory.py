"""Memory files for $readmemh: a word a line, in hexadecimal digits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bnnapps.export.fpga.folding import Fold
from bnnapps.export.fpga.layers import EIGHT_BITS, Compute, Head, Integers


def sum_bits(layer: Compute) -> int:
    """Bits of a sum in the accumulators of a layer.

    With thresholds a sum starts from minus the threshold and has a sign; it must hold every partial sum. Without, it
    counts products that are +1.
    """
    if layer.threshold is None:
        return max(1, layer.terms.bit_length())
    if layer.bits == EIGHT_BITS:
        return (258 * layer.terms + 1).bit_length() + 1
    return (layer.terms + 1).bit_length() + 1


def starts(layer: Compute) -> Integers:
    """Where each sum starts from, so that its bit is high where it ends at 0 or above.

    1-bit codes are counted: z = 2 p - terms >= t is p >= ceil((t + terms) / 2). 8-bit codes are added as x where the
    weight is +1 and as ~x = -x - 1 where it is -1, so the -1 of every such weight is given back.
    """
    if layer.threshold is None:
        raise ValueError(f"layer '{layer.name}' has no thresholds")
    if layer.bits == EIGHT_BITS:
        most = 128 * layer.terms
        lows = (layer.weight.reshape(layer.outputs, -1) < 0).sum(axis=1)
        return np.asarray(lows - np.clip(layer.threshold, -most, most + 1), np.int64)
    limits = -(-(layer.threshold + layer.terms) // 2)
    return -np.clip(limits, 0, layer.terms + 1)


def weight_rows(layer: Compute, fold: Fold) -> npt.NDArray[np.bool_]:
    """The signs in the order in which they are read: (NF * SF, PE * SIMD), 1 for +1."""
    groups, steps = layer.outputs // fold.pe, layer.terms // fold.simd
    signs = layer.weight.reshape(groups, fold.pe, steps, fold.simd) > 0
    return np.ascontiguousarray(np.moveaxis(signs, 2, 1)).reshape(groups * steps, fold.pe * fold.simd)


DEEP = 1024
"""Words that one block memory holds, 18 bits each on ECP5: deeper memories would need a choice between blocks."""


def words_a_row(layer: Compute, fold: Fold) -> int:
    """How many words lie side by side in a row of a layer's weight memory, so that no block lies behind another."""
    return -(-layer.outputs * layer.terms // (fold.pe * fold.simd * DEEP))


def side_by_side(rows: npt.NDArray[np.bool_], words: int) -> npt.NDArray[np.bool_]:
    """So many rows beside each other, the first in the lowest bits; zeros where the last ones are missing."""
    whole = np.zeros((-(-len(rows) // words) * words, rows.shape[1]), bool)
    whole[: len(rows)] = rows
    return whole.reshape(-1, words * rows.shape[1])


def number_rows(values: Integers, per_row: int, bits: int) -> npt.NDArray[np.bool_]:
    """Numbers in two's complement, `per_row` side by side, the first in the lowest bits."""
    places = (values.reshape(-1, per_row, 1) >> np.arange(bits)) & 1
    return places.reshape(-1, per_row * bits).astype(bool)


def rank_bits(head: Head) -> int:
    """Bits of what the classes are compared by."""
    return head.terms.bit_length() if head.ranks is None else max(1, int(head.ranks.max()).bit_length())


def hexadecimal(rows: npt.NDArray[np.bool_]) -> str:
    """Rows of bits, the lowest first, as lines of hexadecimal digits."""
    digits = -(-rows.shape[1] // 4)
    packed = np.packbits(rows, axis=1, bitorder="little")[:, ::-1]
    return "".join(f"{row.tobytes().hex()[-digits:]}\n" for row in packed)

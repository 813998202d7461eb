"""Test vectors: what streams into a design, and every result that has to come out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bnnapps.export.fpga.generate import Design
from bnnapps.export.fpga.golden import classes, streamed, sums
from bnnapps.export.fpga.layers import EIGHT_BITS, Array, Integers, Network
from bnnapps.export.fpga.memory import number_rows

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Vectors:
    """Inputs and results as rows of bits, the lowest first.

    Attributes:
        stimulus: (vectors * beats, bits of a beat).
        golden: (vectors, bits of a result): the class, then, if they are handed out, the sums.
        classes: (vectors,).

    """

    stimulus: Bits
    golden: Bits
    classes: Integers

    def __len__(self) -> int:
        return len(self.golden)

    def take(self, count: int) -> Vectors:
        """The first few."""
        beats = len(self.stimulus) // len(self)
        return Vectors(self.stimulus[: count * beats], self.golden[:count], self.classes[:count])


def make_vectors(network: Network, design: Design, codes: Array) -> Vectors:
    """The vectors for input codes, which are shaped like the network's input."""
    z = sums(network, codes)
    found = classes(network.head, z)
    flow = streamed(codes).astype(np.int64)
    bits = network.input.bits
    rows = number_rows(flow, 1, bits) if bits == EIGHT_BITS else flow.reshape(-1, 1) > 0
    stimulus = rows.reshape(len(codes) * design.beats, design.beat_bits)
    golden = number_rows(found, 1, design.class_bits)
    if design.scores:
        counted = (z + network.head.terms) // 2
        golden = np.concatenate([golden, number_rows(counted, design.classes, design.score_bits)], axis=1)
    return Vectors(stimulus, golden, found)

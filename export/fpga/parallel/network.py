"""The parallel form of a network: every bit has a wire of its own, and nothing is read twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bnnapps.errors import ExportError
from bnnapps.export.fpga.layers import EIGHT_BITS, Array, Codes, Dense, Head, Integers, Network

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Comparators:
    """Bits x[feature] >= level of unsigned numbers.

    Attributes:
        name: for reports.
        feature: (O,), which number each of them reads.
        level: (O,), from 0 (always high) to 2^bits (never).
        bits: of a number.

    """

    name: str
    feature: Integers
    level: Integers
    bits: int = EIGHT_BITS

    @property
    def outputs(self) -> int:
        """Comparators."""
        return len(self.feature)


@dataclass(frozen=True)
class Tables:
    """Lookup tables: output o is entry sum_j 2^j x[wires[o, j]] of its table.

    Attributes:
        name: of the layer in the network.
        wires: (O, n).
        table: (O, 2^n).

    """

    name: str
    wires: Integers
    table: Bits

    @property
    def outputs(self) -> int:
        """Tables."""
        return len(self.wires)


@dataclass(frozen=True)
class Neurons:
    """Bits that say whether at least so many products of codes are +1.

    Attributes:
        name: of the layer in the network.
        weight: (O, K) of -1 and +1.
        least: (O,), how many products have to be +1; 0 is always, K + 1 never.

    """

    name: str
    weight: Codes
    least: Integers

    @property
    def outputs(self) -> int:
        """Neurons."""
        return len(self.weight)


@dataclass(frozen=True)
class Counts:
    """How many of a class's bits are high (or, where `inverted`, low), for each class.

    Attributes:
        name: of the layer in the network.
        terms: (classes, K), the bits that a class counts.
        inverted: (classes, K).

    """

    name: str
    terms: Integers
    inverted: Bits


Stage = Comparators | Tables | Neurons


@dataclass(frozen=True)
class Parallel:
    """A network as parallel hardware computes it.

    Attributes:
        name: for files and reports.
        width: bits that come in at once: `features` numbers, the first in the lowest bits.
        features: numbers of one input.
        stages: from the input to the last bits.
        counts: of the classes.
        head: what becomes of them; its sums are 2 count - terms.

    """

    name: str
    width: int
    features: int
    stages: tuple[Stage, ...]
    counts: Counts
    head: Head

    @property
    def input_bits(self) -> int:
        """Of one number."""
        return self.width // self.features


def of_network(network: Network) -> Parallel:
    """A chain of dense layers on bits as parallel hardware.

    Raises:
        ExportError: another kind of layer, or an input of 8 bits.

    """
    other = next((layer for layer in network.layers if not isinstance(layer, Dense)), None)
    if other is not None:
        raise ExportError(
            f"layer '{other.name}' is no dense layer, and --style parallel takes chains of dense layers: take the "
            "folded style"
        )
    if network.input.bits != 1:
        raise ExportError("--style parallel takes an input of 1 bit, and this one has 8: take the folded style")
    *hidden, last = (layer for layer in network.layers if isinstance(layer, Dense))
    stages = tuple(Neurons(layer.name, layer.weight, _least(layer)) for layer in hidden)
    terms = np.tile(np.arange(last.terms, dtype=np.int64), (last.outputs, 1))
    counts = Counts(last.name, terms, last.weight < 0)
    features = network.compute[0].terms
    return Parallel(network.name, features, features, stages, counts, network.head)


def _least(layer: Dense) -> Integers:
    """z = 2 p - terms >= t is p >= ceil((t + terms) / 2)."""
    assert layer.threshold is not None
    found: Integers = np.clip(-(-(layer.threshold + layer.terms) // 2), 0, layer.terms + 1)
    return found


def bits_of(parallel: Parallel, x: Array) -> Bits:
    """The bits behind the last stage, (N, ...), of inputs (N, features): numbers, or bits."""
    value: Array = np.asarray(x).reshape(len(x), -1)
    for stage in parallel.stages:
        value = _stage(stage, value)
    return np.asarray(value > 0)


def _stage(stage: Stage, x: Array) -> Array:
    if isinstance(stage, Comparators):
        return np.asarray(x[:, stage.feature].astype(np.int64) >= stage.level)
    bits = x.astype(np.int64)
    if isinstance(stage, Tables):
        address = (bits[:, stage.wires] << np.arange(stage.wires.shape[1])).sum(axis=-1)
        return np.asarray(stage.table[np.arange(stage.outputs), address])
    high = np.asarray(stage.weight > 0)
    agree = bits.astype(np.float64) @ high.T.astype(np.float64)
    agree += (1 - bits).astype(np.float64) @ (~high).T.astype(np.float64)
    return np.asarray(agree.astype(np.int64) >= stage.least)


def counted(parallel: Parallel, x: Array) -> Integers:
    """The count of each class, (N, classes): the golden model."""
    bits = bits_of(parallel, x)
    found: Integers = (bits[:, parallel.counts.terms] ^ parallel.counts.inverted).sum(axis=-1).astype(np.int64)
    return found

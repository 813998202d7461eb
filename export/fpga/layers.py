"""The hardware form of a network: a short list of typed layers, all integers, in the order in which data streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int8]
Integers = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

EIGHT_BITS = 8


@dataclass(frozen=True)
class Input:
    """What streams in: codes of pixels, position by position, the channels of a position together.

    Attributes:
        shape: (channels, height, width) of a map, or (features,).
        bits: of a code: 1 for -1 and +1, 8 for -128 to 127.

    """

    shape: tuple[int, ...]
    bits: int

    @property
    def channels(self) -> int:
        """Codes that belong to one position."""
        return self.shape[0]


@dataclass(frozen=True)
class Dense:
    """z = W x with W of -1 and +1; bits z >= threshold, or z itself where there is none.

    Attributes:
        name: of the layer in the network.
        weight: (outputs, terms), the terms in the order in which they stream in.
        threshold: (outputs,), or `None` for the last layer.
        bits: of an input code.

    """

    name: str
    weight: Codes
    threshold: Integers | None
    bits: int = 1

    @property
    def outputs(self) -> int:
        """Neurons."""
        return int(self.weight.shape[0])

    @property
    def terms(self) -> int:
        """Products in a sum."""
        return int(self.weight.shape[1])

    @property
    def granule(self) -> int:
        """What SIMD has to divide."""
        return self.terms

    @property
    def vectors(self) -> int:
        """Sums of each neuron for one input of the network."""
        return 1


@dataclass(frozen=True)
class Conv:
    """A convolution of a map that streams in row by row, then as `Dense` at each position.

    Attributes:
        name: of the layer in the network.
        weight: (outputs, kernel rows, kernel columns, channels).
        threshold: (outputs,).
        size: rows and columns of the incoming map.
        stride: rows, columns.
        pads: top, left, bottom, right.
        pad_value: what a position beyond the border counts as: -1, 0 or +1.
        bits: of an input code.

    """

    name: str
    weight: Codes
    threshold: Integers
    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: int = 0
    bits: int = 1

    @property
    def outputs(self) -> int:
        """Channels of the result."""
        return int(self.weight.shape[0])

    @property
    def terms(self) -> int:
        """Products in a sum."""
        return int(np.prod(self.weight.shape[1:]))

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        return int(self.weight.shape[1]), int(self.weight.shape[2])

    @property
    def channels(self) -> int:
        """Channels of the incoming map."""
        return int(self.weight.shape[3])

    @property
    def granule(self) -> int:
        """What SIMD has to divide: a word of the line buffer holds channels of one position."""
        return self.channels

    @property
    def out_size(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        top, left, bottom, right = self.pads
        rows = (self.size[0] + top + bottom - self.kernel[0]) // self.stride[0] + 1
        columns = (self.size[1] + left + right - self.kernel[1]) // self.stride[1] + 1
        return rows, columns

    @property
    def vectors(self) -> int:
        """Positions of the result."""
        return self.out_size[0] * self.out_size[1]


@dataclass(frozen=True)
class Pool:
    """The OR of each window of bits; windows touch and do not overlap.

    Attributes:
        name: of the layer in the network.
        channels: of the map.
        size: rows and columns of the incoming map; what is beyond the last whole window is dropped.
        window: rows and columns of a window, and of its steps.

    """

    name: str
    channels: int
    size: tuple[int, int]
    window: tuple[int, int]

    @property
    def out_size(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        return self.size[0] // self.window[0], self.size[1] // self.window[1]


@dataclass(frozen=True)
class Head:
    """The class with the largest score, the first of equals.

    Attributes:
        classes: how many.
        terms: products in a sum of the last layer, which lies between -terms and terms in steps of 2.
        ranks: (classes, terms + 1): by how many other values the score of that class and that sum is exceeded from
            below, so that comparing ranks is comparing float scores; `None` where comparing sums is the same.

    """

    classes: int
    terms: int
    ranks: Integers | None


Compute = Dense | Conv
Layer = Dense | Conv | Pool


@dataclass(frozen=True)
class Network:
    """A network as hardware computes it.

    Attributes:
        name: for files and reports.
        input: what streams in.
        layers: in order; the last one is `Dense` without thresholds.
        head: what becomes of its sums.

    """

    name: str
    input: Input
    layers: tuple[Layer, ...]
    head: Head

    @property
    def compute(self) -> tuple[Compute, ...]:
        """The layers with weights."""
        return tuple(layer for layer in self.layers if not isinstance(layer, Pool))

    @property
    def macs(self) -> int:
        """Products of codes for one input."""
        return sum(layer.outputs * layer.terms * layer.vectors for layer in self.compute)

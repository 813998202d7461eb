"""Folding: how many neurons (PE) and how many products of each (SIMD) a layer computes in a cycle, and what follows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnnapps.errors import UsageError, nearest
from bnnapps.export.fpga.layers import Compute, Conv, Dense, Head, Layer, Network, Pool

ROW_GAP = 2
"""Cycles that a convolution takes between two rows of its result."""


@dataclass(frozen=True)
class Fold:
    """The folding of one layer.

    Attributes:
        pe: neurons at a time; divides the outputs.
        simd: products of each neuron at a time; divides the terms of a dense layer, the channels of a convolution.

    """

    pe: int
    simd: int


Folding = Mapping[str, Fold]
"""By the names of the layers."""


def cycles(layer: Compute, fold: Fold) -> int:
    """Cycles of a layer for one input of the network: (outputs / PE) (terms / SIMD) positions, and gaps of rows."""
    own = (layer.outputs // fold.pe) * (layer.terms // fold.simd) * layer.vectors
    return own + (ROW_GAP * layer.out_size[0] if isinstance(layer, Conv) else 0)


def line_rows(layer: Conv) -> int:
    """Rows of the line buffer: twice as many as a row of the result waits for, as in bnn_conv.v."""
    rest = layer.size[0] + layer.pads[0] - (layer.out_size[0] - 1) * layer.stride[0]
    return 2 * max(layer.kernel[0], layer.stride[0], rest)


def head_cycles(head: Head) -> int:
    """Cycles in which the classes are compared, one each."""
    return head.classes


def input_cycles(network: Network, folding: Folding) -> int:
    """Cycles in which one input streams in."""
    first = network.compute[0]
    codes = first.size[0] * first.size[1] * first.channels if isinstance(first, Conv) else first.terms
    return codes // folding[first.name].simd


def interval(network: Network, folding: Folding) -> int:
    """Cycles between two results when nothing waits outside: those of the slowest part."""
    parts = [cycles(layer, folding[layer.name]) for layer in network.compute]
    parts += [head_cycles(network.head), input_cycles(network, folding)]
    return max(parts + [_pool_cycles(layer, network, folding) for layer in network.layers if isinstance(layer, Pool)])


def _pool_cycles(pool: Pool, network: Network, folding: Folding) -> int:
    """A pool takes a word a cycle, of as many channels as the layer in front of it computes at a time."""
    at = network.layers.index(pool)
    before: Layer = network.layers[at]
    while isinstance(before, Pool):
        at -= 1
        before = network.layers[at]
    return pool.size[0] * pool.size[1] * pool.channels // folding[before.name].pe


def check_folding(network: Network, folding: Folding) -> None:
    """Raise `UsageError` for a folding that does not divide its layer, or is not there."""
    names = [layer.name for layer in network.compute]
    for name in folding:
        if name not in names:
            raise UsageError(f"folding: the network has no layer '{name}'; the nearest are {nearest(name, names)}")
    for layer in network.compute:
        if layer.name not in folding:
            raise UsageError(f"folding: layer '{layer.name}' is missing: give its pe and simd")
        fold = folding[layer.name]
        what = "channels of the map" if isinstance(layer, Conv) else "inputs"
        for key, value, whole, of in (
            ("pe", fold.pe, layer.outputs, "outputs"),
            ("simd", fold.simd, layer.granule, what),
        ):
            if value < 1 or whole % value:
                raise UsageError(
                    f"folding: layer '{layer.name}' has {whole} {of}, which {key} {value} does not divide: take one of "
                    f"{', '.join(map(str, nearest_divisors(whole, value)))}"
                )
        if needs_even_simd(layer) and fold.simd % 2:
            raise UsageError(
                f"folding: layer '{layer.name}' is padded with zeros, so simd must be even, not {fold.simd}: take "
                "another one, or pad_value -1 or 1"
            )


def needs_even_simd(layer: Compute) -> bool:
    """A word of zeros adds half of its products to a count, which must be a whole number."""
    return isinstance(layer, Conv) and layer.bits == 1 and any(layer.pads) and layer.pad_value == 0


def divisors(n: int) -> list[int]:
    """The divisors of n, rising."""
    return [d for d in range(1, n + 1) if n % d == 0]


def nearest_divisors(n: int, value: int, count: int = 4) -> list[int]:
    """The divisors of n that are nearest to a value."""
    return sorted(sorted(divisors(n), key=lambda d: abs(d - value))[:count])


def choices(layer: Compute) -> list[Fold]:
    """Every folding of a layer, the slowest first; of equally fast ones those with fewer neurons at a time."""
    even = needs_even_simd(layer)
    found = [
        Fold(pe, simd) for pe in divisors(layer.outputs) for simd in divisors(layer.granule) if not (even and simd % 2)
    ]
    return sorted(found, key=lambda fold: (-cycles(layer, fold), fold.pe))


def read_folding(path: str | Path) -> dict[str, Fold]:
    """A folding file: `{"layers": {"NAME": {"pe": 4, "simd": 16}, ...}}`.

    Raises:
        UsageError: it is missing, is no JSON, or says something else.

    """
    file = Path(path)
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UsageError(f"folding file '{file}' cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise UsageError(f"folding file '{file}' is no JSON: {problem}") from None
    layers = data.get("layers") if isinstance(data, dict) else None
    if not isinstance(layers, dict):
        raise UsageError(f"folding file '{file}': the key 'layers' with a mapping of layers is missing")
    found = {}
    for name, entry in layers.items():
        for key in ("pe", "simd"):
            value = entry.get(key) if isinstance(entry, dict) else None
            if not isinstance(value, int) or isinstance(value, bool):
                raise UsageError(
                    f"folding file '{file}': layers.{name}.{key} is {value!r}; expected a whole number of at least 1"
                )
        found[name] = Fold(entry["pe"], entry["simd"])
    return found


def to_json(folding: Folding) -> dict[str, Any]:
    """What `read_folding` reads."""
    return {"layers": {name: {"pe": fold.pe, "simd": fold.simd} for name, fold in folding.items()}}


def is_dense(layer: Layer) -> bool:
    """Whether a layer is dense."""
    return isinstance(layer, Dense)

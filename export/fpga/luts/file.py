"""A file of truth tables: what a network of lookup tables is, for any other program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bnnapps.errors import DataError
from bnnapps.export.fpga.layers import Head
from bnnapps.export.fpga.parallel.network import Bits, Comparators, Counts, Parallel, Stage, Tables

FORMAT = 1


def to_json(network: Parallel) -> dict[str, Any]:
    """The network as plain data.

    `comparators` are pairs (feature, level): the bit is input[feature] >= level. A table of n inputs is a hexadecimal
    number whose bit a is the output at the address a, which has input j, the bit that `wires` names there, at 2^j.
    `groups` names the bits that each class counts; the largest count wins, the first of equals.
    """
    comparators, *layers = network.stages
    assert isinstance(comparators, Comparators)
    return {
        "format": FORMAT,
        "name": network.name,
        "features": network.features,
        "bits": comparators.bits,
        "comparators": np.stack([comparators.feature, comparators.level], axis=1).tolist(),
        "layers": [
            {"name": one.name, "wires": one.wires.tolist(), "tables": [number(row) for row in one.table]}
            for one in layers
            if isinstance(one, Tables)
        ],
        "groups": network.counts.terms.tolist(),
    }


def number(row: Bits) -> str:
    """A truth table in hexadecimal, the entry of address 0 in the lowest bit."""
    value = sum(1 << place for place, bit in enumerate(row) if bit)
    return f"{value:0{max(1, len(row) // 4)}x}"


def read_file(path: Path) -> Parallel:
    """A network from a file of truth tables.

    Raises:
        DataError: the file cannot be read, or is no such network.

    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise DataError(f"{path} is no JSON: {problem}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise DataError(f"{path} is no file of truth tables of format {FORMAT}: write one with bnnapps fpga RUN")
    try:
        return _network(data)
    except (KeyError, TypeError, ValueError, IndexError) as problem:
        what = f"'{problem.args[0]}' is missing" if isinstance(problem, KeyError) else str(problem)
        raise DataError(f"{path} is no network of truth tables: {what}") from None


def _network(data: dict[str, Any]) -> Parallel:
    features, bits = int(data["features"]), int(data["bits"])
    if features < 1 or not 1 <= bits <= 16:
        raise ValueError(f"features is {features} and bits {bits}")
    pairs = np.asarray(data["comparators"], np.int64).reshape(-1, 2)
    _within(pairs[:, 0], features, "a comparator reads feature")
    if len(pairs) == 0 or (pairs[:, 1] < 0).any() or (pairs[:, 1] > 1 << bits).any():
        raise ValueError(f"levels must lie between 0 and {1 << bits}")
    stages: list[Stage] = [Comparators("thermometer", pairs[:, 0], pairs[:, 1], bits)]
    for layer in data["layers"]:
        wires = np.asarray(layer["wires"], np.int64)
        if wires.ndim != 2 or not 1 <= wires.shape[1] <= 8 or len(layer["tables"]) != len(wires):
            raise ValueError(f"layer '{layer['name']}' needs a table and 1 to 8 wires for each output")
        _within(wires, stages[-1].outputs, f"layer '{layer['name']}' reads bit")
        stages.append(Tables(str(layer["name"]), wires, _tables(layer["tables"], 1 << wires.shape[1])))
    terms = np.asarray(data["groups"], np.int64)
    if terms.ndim != 2 or terms.size == 0:
        raise ValueError("groups must be as many bits for each class")
    _within(terms, stages[-1].outputs, "a group counts bit")
    counts = Counts("group sum", terms, np.zeros(terms.shape, bool))
    head = Head(len(terms), terms.shape[1], None)
    return Parallel(str(data["name"]), features * bits, features, tuple(stages), counts, head)


def _within(found: Any, most: int, what: str) -> None:
    if found.size and (found.min() < 0 or found.max() >= most):
        wrong = int(found.min()) if found.min() < 0 else int(found.max())
        raise ValueError(f"{what} {wrong}, and there are {most}")


def _tables(texts: list[str], size: int) -> Bits:
    values = [int(text, 16) for text in texts]
    if any(value >> size or value < 0 for value in values):
        raise ValueError(f"a table has more than {size} entries")
    return np.array([[bool(value >> place & 1) for place in range(size)] for value in values])

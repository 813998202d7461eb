"""From a trained network of lookup tables to the parallel form: comparators, truth tables, counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnnapps.errors import ExportError
from bnnapps.export.fpga.layers import EIGHT_BITS, Array, Head, Integers
from bnnapps.export.fpga.parallel.network import Bits, Comparators, Counts, Parallel, Stage, Tables
from bnnapps.nn.layers import BinaryLayer, BinaryLookup
from bnnapps.nn.thermometer import GroupSum, Thermometer

_VALUES = 1 << EIGHT_BITS


def is_lookup_network(model: nn.Module) -> bool:
    """Whether the model has binarized layers of lookup tables."""
    return any(isinstance(module, BinaryLookup) for module in model.modules())


@torch.no_grad()
def read_tables(model: nn.Module, name: str, normalize: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Parallel:
    """The parallel form of a network of lookup tables.

    Every threshold is tried against all 256 values that a pixel can have, as the network sees them, and becomes the
    least value that is above it. Tables and comparators that nothing reads are left out.

    Args:
        model: a thermometer, binary layers of tables, and a group sum, in an `nn.Sequential`.
        name: for files and reports.
        normalize: from uint8 images (N, C, H, W) to what the network takes.
        shape: of an image, (C, H, W).

    Raises:
        ExportError: another network.

    """
    thermometer, layers, head = _parts(model, name)
    levels = levels_of(thermometer, normalize, shape)
    feature = np.repeat(np.arange(thermometer.features, dtype=np.int64), thermometer.bits)
    stages: list[Stage] = [Comparators("thermometer", feature, levels.reshape(-1))]
    for number, layer in layers:
        table = (layer.binary_tensors()["weight"] > 0).numpy()
        stages.append(Tables(number, layer.chosen_wires().numpy().astype(np.int64), table))
    outputs = stages[-1].outputs
    terms = np.arange(outputs, dtype=np.int64).reshape(head.classes, -1)
    counts = Counts("group sum", terms, np.zeros(terms.shape, bool))
    width = thermometer.features * EIGHT_BITS
    found = Parallel(name, width, thermometer.features, tuple(stages), counts, Head(head.classes, terms.shape[1], None))
    return pruned(found)


def _parts(model: nn.Module, name: str) -> tuple[Thermometer, list[tuple[str, BinaryLookup]], GroupSum]:
    children = list(model.named_children()) if isinstance(model, nn.Sequential) else []
    first, *inner, last = [child for _, child in children] if len(children) > 2 else [None, None]
    layers = [(key, child) for key, child in children[1:-1] if isinstance(child, BinaryLookup)]
    if not isinstance(first, Thermometer) or not isinstance(last, GroupSum) or len(layers) != len(inner):
        strange = next(
            (m for m in model.modules() if isinstance(m, BinaryLayer) and not isinstance(m, BinaryLookup)), None
        )
        found = type(model if strange is None else strange).__name__
        raise ExportError(
            f"'{name}' is no chain of a Thermometer, binarized Lookup layers and a GroupSum ({found}): build it as "
            "bnnapps.models.lookup.lookup_network does, with every Lookup binarized"
        )
    return first, layers, last


def levels_of(thermometer: Thermometer, normalize: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Integers:
    """The least pixel value above each threshold, (features, bits); 256 where there is none."""
    channels = shape[0]
    if int(np.prod(shape)) != thermometer.features:
        raise ExportError(
            f"the thermometer takes {thermometer.features} numbers, and an image has {int(np.prod(shape))}"
        )
    ramp = torch.arange(_VALUES, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, channels, 1, 1)
    values = normalize(ramp).reshape(_VALUES, channels)
    if (values.diff(dim=0) <= 0).any():
        raise ExportError("the pixels do not grow as the network sees them: thresholds have no levels")
    by_pixel = values.t().repeat_interleave(thermometer.features // channels, dim=0)
    above = by_pixel[:, None, :] > thermometer.thresholds[:, :, None]
    found: Integers = (_VALUES - above.sum(dim=-1)).numpy().astype(np.int64)
    return found


def pruned(network: Parallel) -> Parallel:
    """Without what nothing reads, and with each comparator once."""
    stages = list(network.stages)
    terms = network.counts.terms
    used, places = np.unique(terms, return_inverse=True)
    terms = places.reshape(terms.shape).astype(np.int64)
    for number in range(len(stages) - 1, -1, -1):
        stage = stages[number]
        if isinstance(stage, Tables):
            wires, table = stage.wires[used], stage.table[used]
            used, places = np.unique(wires, return_inverse=True)
            stages[number] = Tables(stage.name, places.reshape(wires.shape).astype(np.int64), table)
        elif isinstance(stage, Comparators):
            pairs, first = np.unique(np.stack([stage.feature[used], stage.level[used]]), axis=1, return_inverse=True)
            stages[number] = Comparators(stage.name, pairs[0], pairs[1], stage.bits)
            renumber = np.asarray(first).reshape(-1)
            if number + 1 < len(stages):
                after: Any = stages[number + 1]
                stages[number + 1] = Tables(after.name, renumber[after.wires].astype(np.int64), after.table)
    counts = Counts(network.counts.name, terms, network.counts.inverted)
    return Parallel(network.name, network.width, network.features, tuple(stages), counts, network.head)


def stimulus(network: Parallel, x: Array) -> Bits:
    """Inputs (N, features) as rows of bits, the first number in the lowest ones."""
    bits = network.input_bits
    rows = np.asarray(x, np.int64).reshape(len(x), network.features, 1)
    found: Bits = ((rows >> np.arange(bits)) & 1).astype(bool).reshape(len(x), network.width)
    return found

"""Inputs of a parallel design, and what its origin makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bnnapps.errors import ExportError
from bnnapps.export.fpga.golden import streamed, sums
from bnnapps.export.fpga.layers import Array, Integers
from bnnapps.export.fpga.luts.file import read_file
from bnnapps.export.fpga.luts.read import read_tables
from bnnapps.export.fpga.memory import number_rows
from bnnapps.export.fpga.parallel.network import Parallel, counted, of_network
from bnnapps.export.fpga.simulate.vectors import Vectors
from bnnapps.export.fpga.source import Agreement, Source, compare
from bnnapps.nn.thermometer import GroupSum

_DRAWN = 64


@dataclass(frozen=True)
class ParallelSource:
    """A network in parallel form with inputs.

    Attributes:
        network: the parallel form.
        inputs: numbers, or bits 0 and 1, (N, features).
        counts: of each class, as the origin has them, (N, classes).
        classes: that the origin chooses, (N,).
        origin: what computed them.
        data: where the inputs come from.
        metrics: of the origin over all its inputs, where it has labels.
        products: what the layers compute for an input: products of codes and tables read.
        tables: whether it is a network of truth tables.

    """

    network: Parallel
    inputs: Integers
    counts: Integers
    classes: Integers
    origin: str
    data: str
    metrics: dict[str, float]
    products: int
    tables: bool


def of_source(source: Source) -> ParallelSource:
    """A chain of dense layers; the folded form's golden model is held against the origin first."""
    network = of_network(source.network)
    compare(source)
    codes = source.codes()
    z = sums(source.network, codes)
    found = (z + source.network.head.terms) // 2
    bits = (streamed(codes) > 0).astype(np.int64)
    best = np.asarray(source.outputs.argmax(axis=1), np.int64)
    macs = source.network.macs
    return ParallelSource(network, bits, found, best, source.origin, source.data, source.metrics, macs, False)


def of_tables(path: Path, vectors: int | None, seed: int = 0) -> ParallelSource:
    """A file of truth tables, with random inputs."""
    network = read_file(path)
    shape = (_DRAWN if vectors is None else vectors, network.features)
    x = np.random.default_rng(seed).integers(0, 1 << network.input_bits, shape)
    found = counted(network, x)
    best = found.argmax(axis=1).astype(np.int64)
    return ParallelSource(network, x, found, best, "the golden model", "random numbers", {}, _tables(network), True)


def of_model(task: Any, model: nn.Module, name: str, vectors: int | None, exported: Any) -> ParallelSource:
    """A trained network of lookup tables, with the dev set of its run.

    Raises:
        ExportError: the task has no images, or the scores of torch are no counts over the temperature.

    """
    if not hasattr(task, "normalize"):
        raise ExportError(
            f"a network of lookup tables is read from the task 'classification', not '{task.recipe.task}'"
        )
    task.prepare()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        seen.append((inputs[0].detach().cpu(), output.detach().cpu()))

    model.eval()
    hook = model.register_forward_hook(keep)
    try:
        metrics = exported.dev_metrics(task, model)
    finally:
        hook.remove()
    images = torch.cat([one for one, _ in seen])[:vectors]
    scores = torch.cat([one for _, one in seen])[:vectors]
    pixels = task.normalize.undo(images)
    if not torch.equal(task.normalize(pixels), images):
        raise ExportError("the dev set is no longer made of pixels of 8 bits: set data.size to that of the images")
    network = read_tables(model, name, task.normalize, tuple(images.shape[1:]))
    head = next(module for module in model.modules() if isinstance(module, GroupSum))
    found = (scores.double() * head.temperature).round()
    if not torch.equal(found.float() / head.temperature, scores.float()):
        raise ExportError("the scores of torch are no whole counts over the temperature: please report it")
    return ParallelSource(
        network,
        pixels.reshape(len(pixels), -1).numpy().astype(np.int64),
        found.numpy().astype(np.int64),
        scores.argmax(dim=1).numpy().astype(np.int64),
        "torch",
        "the dev set of the run",
        metrics,
        _tables(network),
        True,
    )


def _tables(network: Parallel) -> int:
    return sum(stage.outputs for stage in network.stages[1:])


def agreement(source: ParallelSource) -> Agreement:
    """Hold the golden model of the parallel form against the origin: every class and every count.

    Raises:
        ExportError: any of them differs.

    """
    found = counted(source.network, source.inputs)
    same, chosen = int((found == source.counts).sum()), int((best(source.network, found) == source.classes).sum())
    if same < found.size or chosen < len(found):
        raise ExportError(
            f"the parallel form and {source.origin} disagree: {found.size - same} of {found.size} counts and "
            f"{len(found) - chosen} of {len(found)} classes: please report it"
        )
    return Agreement(len(found), chosen, same, int(found.size))


def best(network: Parallel, found: Integers) -> Integers:
    """The class of each row of counts."""
    ranks = network.head.ranks
    keys: Array = found if ranks is None else ranks[np.arange(network.head.classes), found]
    chosen: Integers = keys.argmax(axis=1).astype(np.int64)
    return chosen


def parallel_vectors(network: Parallel, x: Integers, class_bits: int, score_bits: int, scores: bool) -> Vectors:
    """What goes into the design and has to come out: the golden model's class and counts."""
    found = counted(network, x)
    chosen = best(network, found)
    golden = number_rows(chosen, 1, class_bits)
    if scores:
        golden = np.concatenate([golden, number_rows(found, network.head.classes, score_bits)], axis=1)
    return Vectors(number_rows(x, network.features, network.input_bits), golden, chosen)

"""Where a network and the inputs to test it with come from: a run folder, or a packed ONNX file."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto
from rich.console import Console

from bnnapps.errors import ExportError, UsageError
from bnnapps.export.file import packed_version, read_model
from bnnapps.export.fpga.golden import classes, sums
from bnnapps.export.fpga.graph import Chain, apply
from bnnapps.export.fpga.layers import Array, Network
from bnnapps.export.fpga.read import input_codes, read_network
from bnnapps.export.fpga.thresholds import reachable
from bnnapps.export.ir.interpret import interpret

_DRAWN = 64


@dataclass(frozen=True)
class Source:
    """A network with inputs, and what its origin makes of them.

    Attributes:
        network: the hardware layers.
        chain: the graph that they were read from.
        front: how many of its nodes make the input codes.
        inputs: of the network, float32 (N, ...).
        outputs: scores that the origin computes for them, (N, classes).
        origin: what computed them.
        data: where the inputs come from.
        metrics: of the origin over all its inputs, where it has labels.

    """

    network: Network
    chain: Chain
    front: int
    inputs: Array
    outputs: Array
    origin: str
    data: str
    metrics: dict[str, float]

    def codes(self) -> Array:
        """What streams into the hardware."""
        return input_codes(self.chain, self.front, self.inputs)


def open_any(path: Path, vectors: int | None, style: str, console: Console, seed: int = 0) -> Any:
    """What a flow of that style reads: a `Source`, or a `ParallelSource`.

    A run whose network has lookup tables, and a file of truth tables (.json), have a parallel form alone.

    Args:
        path: a folder of a finished run, a packed ONNX file, or a file of truth tables.
        vectors: as in `open_source`.
        style: auto, folded or parallel.
        console: for what is done on the way.
        seed: of random inputs.

    """
    parallel = importlib.import_module("bnnapps.export.fpga.parallel.source")
    tables = importlib.import_module("bnnapps.export.fpga.luts.read")
    if path.is_dir():
        task, model, folder = importlib.import_module("bnnapps.training.runner").open_run(path)
        if tables.is_lookup_network(model):
            _not_folded(path, style)
            exported = importlib.import_module("bnnapps.training.exported")
            return parallel.of_model(task, model, _name(folder), vectors, exported)
    elif path.suffix == ".json":
        _not_folded(path, style)
        return parallel.of_tables(path, vectors, seed)
    source = open_source(path, vectors, console, seed)
    return parallel.of_source(source) if style == "parallel" else source


def _not_folded(path: Path, style: str) -> None:
    if style == "folded":
        raise UsageError(f"'{path}' is a network of lookup tables, which has no folded form: drop --style")


def open_source(path: Path, vectors: int | None, console: Console, seed: int = 0) -> Source:
    """Read a run folder, whose packed file is exported if it is missing, or a packed file.

    Args:
        path: a folder of a finished run, or a packed ONNX file.
        vectors: so many inputs; `None`: the whole dev set of a run, 64 random ones for a file.
        console: for what is done on the way.
        seed: of random inputs.

    """
    if path.is_dir():
        return _of_run(path, vectors, console)
    model = _packed(path)
    network, chain, front = read_network(model, str(path))
    shape = (_DRAWN if vectors is None else vectors, *chain.input_shape())
    x = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
    outputs = next(iter(interpret(model, {chain.input: x}).values()))
    return Source(network, chain, front, x, outputs, "the golden model of the operators", "random numbers", {})


def _packed(path: Path) -> ModelProto:
    model = read_model(path)
    if not packed_version(model):
        raise UsageError(f"'{path}' is no packed file: export the model with the dialect 'packed'")
    return model


def _of_run(path: Path, vectors: int | None, console: Console) -> Source:
    """The dev set through the trained model in torch."""
    runner = importlib.import_module("bnnapps.training.runner")
    exported = importlib.import_module("bnnapps.training.exported")
    task, model, folder = runner.open_run(path)
    file = folder.root / "export" / "packed" / "model.onnx"
    if not file.is_file():
        runner.export_model(task, model, folder, "packed", console)
    network, chain, front = read_network(_packed(file), str(file))
    network = _renamed(network, _name(folder))
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
    x = torch.cat([one for one, _ in seen]).float().numpy()[:vectors]
    y = torch.cat([one for _, one in seen]).float().numpy()[:vectors]
    return Source(network, chain, front, x, y, "torch", "the dev set of the run", metrics)


def _name(folder: Any) -> str:
    file = folder.root / "recipe.json"
    name = json.loads(file.read_text())["name"] if file.is_file() else ""
    return str(name or folder.root.resolve().name)


def _renamed(network: Network, name: str) -> Network:
    return Network(name, network.input, network.layers, network.head)


@dataclass(frozen=True)
class Agreement:
    """How the golden model compares with the origin.

    Attributes:
        vectors: inputs that were compared.
        classes: how many classes are the same.
        sums: how many sums of the last layer are the same.
        of_sums: how many there are.

    """

    vectors: int
    classes: int
    sums: int
    of_sums: int


def compare(source: Source) -> Agreement:
    """Hold the golden model against the origin: every class, and every sum of the last layer.

    A score of the origin tells its sum: that of all reachable ones whose score is nearest.

    Raises:
        ExportError: any of them differs.

    """
    network = source.network
    z = sums(network, source.codes())
    found = classes(network.head, z)
    table = _scores(source)
    grid = reachable(network.head.terms, 1, 2)
    nearest = np.stack(
        [grid[np.abs(source.outputs[:, c, None] - table[c][None]).argmin(axis=1)] for c in range(network.head.classes)],
        axis=1,
    )
    same_sums = int((nearest == z).sum())
    same = int((found == source.outputs.argmax(axis=1)).sum())
    if same < len(z) or same_sums < z.size:
        wrong = np.flatnonzero((nearest != z).any(axis=1) | (found != source.outputs.argmax(axis=1)))
        raise ExportError(
            f"the integer model and {source.origin} disagree on {len(wrong)} of {len(z)} inputs, first on number "
            f"{int(wrong[0])} ({z.size - same_sums} of {z.size} sums): export the model again"
        )
    return Agreement(len(z), same, same_sums, int(z.size))


def _scores(source: Source) -> Array:
    """The score of every class for every reachable sum, (classes, sums)."""
    head = source.network.head
    z = np.repeat(reachable(head.terms, 1, 2)[:, None], head.classes, axis=1).astype(np.float32)
    last = max(i for i, node in enumerate(source.chain.nodes) if node.op_type.startswith("BinaryDense"))
    own = source.chain.nodes[last]
    nodes = source.chain.nodes[last + 1 :] if own.op_type.endswith("Integer") else source.chain.nodes[last:]
    return apply(source.chain, nodes, z).T

"""Where the time goes, node by node: ONNX Runtime's profiler, and the work that each node on bits does."""

from __future__ import annotations

import json
import math
import tempfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto

from bnnapps.export.bench.feeds import Feeds
from bnnapps.export.bench.latency import WARM_UP, Candidate, call_of, options_for
from bnnapps.export.inspection import attributes_of, has_weight, weight_count
from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.session import open_session

Shape = tuple[int, ...]


@dataclass(frozen=True)
class NodeTime:
    """One node of the graph that ONNX Runtime made of the file.

    Attributes:
        name, operator: of the node.
        ms: its time in a call, in milliseconds: the mean of the middle half of the calls.
        share: of the time of all nodes.
        shape: of its first output.
        macs: how many multiply-adds of codes it does; 0 where it runs on no bits.
        fraction: of the popcount bound of all threads; `None` where there is no such bound.

    """

    name: str
    operator: str
    ms: float
    share: float
    shape: Shape
    macs: int
    fraction: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"shape": list(self.shape)}


@dataclass(frozen=True)
class OperatorTime:
    """All nodes of one operator together; the attributes are sums over those of `NodeTime`."""

    operator: str
    nodes: int
    ms: float
    share: float
    macs: int
    fraction: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def profile(
    model: ModelProto, one: Candidate, feeds: Feeds, threads: int, runs: int, bound: float | None
) -> tuple[NodeTime, ...]:
    """The time of every node of a file, in the order in which they run.

    Args:
        model: the file, as it was read.
        one: the same file.
        feeds: its inputs.
        threads: how many threads it runs on.
        runs: how many calls are profiled.
        bound: multiply-adds per second of one thread, or `None`.

    """
    options = options_for(threads)
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = open_session(one.path, options, one.kernels)
        call = call_of(session, feeds)
        for _ in range(WARM_UP + runs):
            call()
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = {node.name: node for node in model.graph.node if node.domain == DOMAIN}
    return _node_times(events, nodes, None if bound is None else bound * threads)


def by_operator(nodes: Sequence[NodeTime]) -> tuple[OperatorTime, ...]:
    """The same by operator, the slowest first."""
    groups: dict[str, list[NodeTime]] = defaultdict(list)
    for node in nodes:
        groups[node.operator].append(node)
    found = [_together(name, group) for name, group in groups.items()]
    return tuple(sorted(found, key=lambda row: -row.ms))


def macs_of(node: NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    """How many multiply-adds of codes a node on bits does, padded taps included.

    Where the number of terms of a product of two activations is free, whole words count, as the kernel computes them.

    Args:
        node: an operator of the domain.
        inputs: the shapes of its inputs.
        output: the shape of its first output.

    """
    if node.op_type.startswith("BinaryMatMul"):
        terms = attributes_of(node)["channels"][0] or 8 * inputs[0][-1]
        return int(math.prod(inputs[0][:-2] if len(inputs[0]) >= len(inputs[1]) else inputs[1][:-2])) * int(
            inputs[0][-2] * inputs[1][-2] * terms
        )
    if not has_weight(node):
        return 0
    weights = weight_count(node, inputs[1])
    if node.op_type.startswith("BinaryDense"):
        return math.prod(inputs[0][:-1]) * weights
    if node.op_type.startswith("BinaryConvTranspose"):
        return math.prod(inputs[0][:-1]) * weights
    last = node.op_type.endswith("Last") or node.op_type == "BinaryConvBits"
    positions = (output[0], *output[1:-1]) if last else (output[0], *output[2:])
    return math.prod(positions) * weights


def _node_times(
    events: Sequence[Mapping[str, Any]], nodes: Mapping[str, NodeProto], bound: float | None
) -> tuple[NodeTime, ...]:
    calls = sorted(event["ts"] for event in events if event["name"] == "model_run")
    microseconds: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * len(calls))
    arguments: dict[tuple[str, str], Mapping[str, Any]] = {}
    for event in events:
        if event["cat"] != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        key = event["args"].get("node_index", ""), event["name"].removesuffix("_kernel_time")
        microseconds[key][bisect_right(calls, event["ts"]) - 1] += event["dur"]
        arguments[key] = event["args"]
    rows = [
        _row(key[1], 1e-6 * _midmean(times[WARM_UP:]), arguments[key], nodes.get(key[1]), bound)
        for key, times in microseconds.items()
    ]
    total = sum(row.ms for row in rows)
    return tuple(replace(row, share=row.ms / total if total else 0.0) for row in rows)


def _midmean(values: Sequence[float]) -> float:
    """The mean of the middle half: as calm as a median, with more digits than the profiler's whole microseconds."""
    cut = len(values) // 4
    return float(np.mean(sorted(values)[cut : len(values) - cut]))


def _row(
    name: str, seconds: float, arguments: Mapping[str, Any], node: NodeProto | None, bound: float | None
) -> NodeTime:
    outputs, inputs = (_sizes(arguments, key) for key in ("output_type_shape", "input_type_shape"))
    output = outputs[0] if outputs else ()
    macs = 0 if node is None else macs_of(node, inputs, output)
    fraction = macs / seconds / bound if macs and seconds and bound else None
    return NodeTime(name, str(arguments["op_name"]), 1e3 * seconds, 0.0, output, macs, fraction)


def _sizes(arguments: Mapping[str, Any], key: str) -> list[Shape]:
    return [tuple(shape) for one in arguments.get(key, ()) for shape in one.values()]


def _together(operator: str, group: Sequence[NodeTime]) -> OperatorTime:
    ms, macs = sum(n.ms for n in group), sum(n.macs for n in group)
    # The time that the bound allows is that of each node; together they take the sum of them.
    least = sum(n.fraction * n.ms for n in group if n.fraction is not None)
    known = all(n.fraction is not None for n in group)
    return OperatorTime(
        operator, len(group), ms, sum(n.share for n in group), macs, least / ms if known and ms else None
    )

"""The parts of `bnnapps bench`: inputs, turns, work, the profile. No test looks at how long anything takes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_models import two_layers
from onnx import TensorProto, helper

import bnnapps.export
from bnnapps.errors import ExportError, UsageError
from bnnapps.export.bench.bound import popcount_bound
from bnnapps.export.bench.feeds import Input, batches_of, feeds_for, inputs_of, sizes_of
from bnnapps.export.bench.latency import WARM_UP, Candidate, measure
from bnnapps.export.bench.memory import footprint
from bnnapps.export.bench.operators import NodeTime, _node_times, by_operator, macs_of
from bnnapps.export.bench.run import bench
from bnnapps.export.bench.twins import int8_twin
from bnnapps.kernels import library

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
TOKENS = (Input("ids", INT64, ("batch", "sequence")), Input("attention_mask", INT64, ("batch", "sequence")))
IMAGE = (Input("image", FLOAT, (4, 3, 8, 8)),)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "model.onnx"
    bnnapps.export.export(two_layers(), torch.randn(2, 2, 4, 4), path, dialect="packed")
    return path


# Inputs


def test_free_sizes_take_what_is_given_or_the_default() -> None:
    assert sizes_of(TOKENS, {}) == {"sequence": 128}
    assert sizes_of(TOKENS, {"sequence": 7}) == {"sequence": 7}
    assert sizes_of(IMAGE, {}) == {}
    assert batches_of(TOKENS, None) == (1,)
    assert batches_of(TOKENS, [1, 8]) == (1, 8)
    assert batches_of(IMAGE, None) == batches_of(IMAGE, [4]) == (4,)


def test_sizes_that_a_file_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match="--size: this file has no free size 'sequense'; the nearest are 'sequence'"):
        sizes_of(TOKENS, {"sequense": 3})
    with pytest.raises(UsageError, match="no free size 'batch'; the nearest are 'sequence'"):
        sizes_of(TOKENS, {"batch": 3})
    with pytest.raises(UsageError, match="--batch: the batch size of this file is fixed at 4"):
        batches_of(IMAGE, [1])


def test_inputs_have_the_types_and_shapes_of_the_file() -> None:
    inputs = (*TOKENS, Input("image", FLOAT, ("batch", 3, 5)), Input("keep", BOOL, (2,)))
    feeds = feeds_for(inputs, 6, {"sequence": 9})
    assert {name: (array.dtype.name, array.shape) for name, array in feeds.items()} == {
        "ids": ("int64", (6, 9)),
        "attention_mask": ("int64", (6, 9)),
        "image": ("float32", (6, 3, 5)),
        "keep": ("bool", (2,)),
    }
    assert set(np.unique(feeds["ids"])) == {0, 1}
    assert feeds["attention_mask"].all()
    assert feeds["keep"].all()
    assert len(np.unique(feeds["image"])) == 90
    with pytest.raises(UsageError, match="input 'words' has the type STRING, which cannot be made up"):
        feeds_for((Input("words", TensorProto.STRING, (1,)),), 1, {})


def test_constants_and_nameless_sizes_of_a_file() -> None:
    x = helper.make_tensor_value_info("x", FLOAT, [None, 3, None])
    w = helper.make_tensor_value_info("w", FLOAT, [3])
    y = helper.make_tensor_value_info("y", FLOAT, None)
    weight = helper.make_tensor("w", FLOAT, [3], [1.0, 2.0, 3.0])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x, w], [y], [weight])
    inputs = inputs_of(helper.make_model(graph))
    assert inputs == (Input("x", FLOAT, ("x.0", 3, "x.2")),)
    assert sizes_of(inputs, {}) == {"x.2": 128}
    assert feeds_for(inputs, 2, {"x.2": 5})["x"].shape == (2, 3, 5)


# Turns


def test_files_are_called_in_turns_and_take_turns_at_beginning() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    measure(calls, 1, 1, 4)
    rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert len(rounds) == WARM_UP + 4
    assert rounds[-4:] == ["abc", "bca", "cab", "abc"]


def test_median_and_spread_are_those_of_the_counted_calls() -> None:
    now = 0.0
    cost = {"fast": itertools.chain([9.0] * WARM_UP, range(1, 12)), "slow": itertools.repeat(100.0)}

    def call(name: str) -> None:
        nonlocal now
        now += next(cost[name])

    found = measure({n: (lambda n=n: call(n)) for n in cost}, 2, 8, 11, lambda: now)
    assert [one.to_dict() for one in found] == [
        {"name": "fast", "threads": 2, "batch": 8, "runs": 11, "median": 6000.0, "p10": 2000.0, "p90": 10000.0},
        {"name": "slow", "threads": 2, "batch": 8, "runs": 11, "median": 1e5, "p10": 1e5, "p90": 1e5},
    ]


# Work


def conv(kind: str, **attributes: Any) -> onnx.NodeProto:
    geometry = {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "pads": [1] * 4}
    made = helper.make_node(kind, ["x", "w"], ["y"], domain="bnnapps", low=-1.0)
    made.attribute.extend(helper.make_attribute(name, value) for name, value in (geometry | attributes).items())
    return made


def node(kind: str, channels: int) -> onnx.NodeProto:
    return helper.make_node(kind, ["x", "w"], ["y"], domain="bnnapps", low=-1.0, channels=[channels])


@pytest.mark.parametrize(
    ("one", "inputs", "output", "macs"),
    [
        # 20 outputs of 5 channels a group and 9 taps at 2 x 6 x 7 positions; a row of weights takes 6 bytes
        (conv("BinaryConvFloat", channels=[10], group=2), [(2, 6, 7, 4), (20, 6)], (2, 20, 6, 7), 2 * 42 * 20 * 45),
        (conv("BinaryConvFloatBitsLast", channels=[10], group=2), [(2, 6, 7, 4), (20, 6)], (2, 6, 7, 20), 75600),
        (conv("BinaryConvBits", channels=[10], group=2), [(2, 6, 7, 4), (20, 6)], (2, 6, 7, 4), 75600),
        (
            conv("BinaryConvTransposeFloat", channels=[10], group=2, outputs=[20]),
            [(2, 6, 7, 4), (10, 12)],
            (2, 20, 6, 7),
            2 * 42 * 10 * 10 * 9,
        ),
        (node("BinaryDenseBits", 100), [(2, 5, 16), (7, 13)], (2, 5, 4), 10 * 7 * 100),
        (node("BinaryMatMulInteger", 60), [(2, 3, 5, 8), (2, 3, 7, 8)], (2, 3, 5, 7), 6 * 5 * 7 * 60),
        (node("BinaryMatMulFloat", 0), [(3, 5, 8), (3, 7, 8)], (3, 5, 7), 3 * 5 * 7 * 64),
        (node("Unpack", 60), [(2, 8)], (2, 60), 0),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_work_of_a_node(one: onnx.NodeProto, inputs: list[Any], output: tuple[int, ...], macs: int) -> None:
    assert macs_of(one, inputs, output) == macs


def event(name: str, ts: int, dur: int, op: str, output: list[int], inputs: list[list[int]]) -> dict[str, Any]:
    shapes = {"output_type_shape": [{"float": output}], "input_type_shape": [{"uint8": shape} for shape in inputs]}
    arguments = {"op_name": op, "node_index": name, **shapes}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": arguments}


def test_the_profile_counts_calls_after_the_warm_up_and_knows_the_bound() -> None:
    dense = node("BinaryDenseFloat", 100)
    events: list[dict[str, Any]] = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 5}]
    times = [900] * WARM_UP + [10, 20, 20, 90]
    for i, time in enumerate(times):
        start = 1000 * i
        events.append(event("product", start + 1, time, "BinaryDenseFloat", [4, 50], [[4, 16], [50, 13]]))
        events.append(event("half", start + 500, 5, "Relu", [4, 50], []))
        events.append(event("half", start + 600, 5, "Relu", [4, 50], []))
        events.append({"cat": "Session", "name": "model_run", "ts": start, "dur": 999})
    product, relu = _node_times(events, {"product": dense}, 2e9)
    assert (product.name, product.operator, product.shape) == ("product", "BinaryDenseFloat", (4, 50))
    assert product.ms == pytest.approx(0.02)  # the middle half of the calls
    assert product.macs == 4 * 50 * 100
    assert product.fraction == pytest.approx(20000 / 20e-6 / 2e9)
    assert relu.ms == pytest.approx(0.01)  # both times that it runs in a call
    assert (relu.macs, relu.fraction) == (0, None)
    assert (product.share, relu.share) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_operators_add_up() -> None:
    nodes = [
        NodeTime("a", "Dense", 1.0, 0.1, (1,), 100, 0.5),
        NodeTime("b", "Relu", 6.0, 0.6, (1,), 0, None),
        NodeTime("c", "Dense", 3.0, 0.3, (1,), 50, 0.1),
    ]
    relu, dense = by_operator(nodes)
    assert (relu.operator, relu.nodes, relu.fraction) == ("Relu", 1, None)
    assert (dense.operator, dense.nodes, dense.ms, dense.macs) == ("Dense", 2, 4.0, 150)
    assert dense.share == pytest.approx(0.4)
    assert dense.fraction == pytest.approx(0.2)  # (0.5 ms + 0.3 ms) that the bound allows, of 4 ms


# On this machine


def test_a_whole_measurement(packed: Path) -> None:
    found = bench(packed, threads=(1, 2), batches=(1, 3), runs=2).to_dict()
    json.dumps(found, allow_nan=False)
    assert [(r["threads"], r["batch"]) for r in found["latencies"]] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert all(0 < r["p10"] <= r["median"] <= r["p90"] for r in found["latencies"])
    assert [f["name"] for f in found["files"]] == ["packed"]
    assert found["files"][0]["bytes"] == packed.stat().st_size
    assert found["files"][0]["memory_bytes"] > 0
    assert found["files"][0]["start"] > 0
    assert sum(row["share"] for row in found["operators"]) == pytest.approx(1)
    assert sum(row["nodes"] for row in found["operators"]) == len(found["nodes"])
    here = library.library_path() is not None
    assert (found["kernels"] is not None) is here
    work = {row["operator"]: row["macs"] for row in found["operators"] if row["macs"]}
    assert work == ({"BinaryConvFloat": 4 * 18 * 16, "BinaryDenseFloat": 3 * 64} if here else {})


def test_without_kernels_a_packed_file_is_measured_on_its_function_bodies(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnnapps.export.bench.run.library_path", lambda: None)
    found = bench(packed, runs=1)
    assert (found.kernels, found.bound) == (None, None)
    assert found.notes == ("the kernels are not installed: see `bnnapps runtime info`",)
    assert not any(row.macs for row in found.nodes)
    assert not any(row.operator.startswith("Binary") for row in found.nodes)


def test_a_twin_that_does_not_fit_is_a_note(packed: Path, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed.onnx"
    bnnapps.export.export(two_layers(), torch.randn(2, 2, 4, 4), fixed, dynamic_batch=False)
    found = bench(packed, batches=(1, 2), runs=1, twins={"float": tmp_path / "gone.onnx", "portable": fixed})
    measured = [(row.name, row.batch) for row in found.latencies]
    assert measured == [("packed", 1), ("packed", 2), ("portable", 2)]
    assert found.notes == (
        f"no twin 'float': there is no file '{tmp_path / 'gone.onnx'}': export a model to it first",
        "the batch size of 'portable' is fixed: not measured at 1",
    )


def test_inputs_that_a_graph_cannot_take_are_said(tmp_path: Path) -> None:
    table = helper.make_tensor("table", FLOAT, [4, 2], [0.0] * 8)
    length = helper.make_tensor("length", INT64, [2], [1, 4])
    nodes = [helper.make_node("Reshape", ["x", "length"], ["y"])]
    x = helper.make_tensor_value_info("x", FLOAT, ["batch", "sequence"])
    y = helper.make_tensor_value_info("y", FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "g", [x], [y], [table, length])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    with pytest.raises(ExportError) as caught:
        bench(path, runs=1)
    message = str(caught.value)
    assert message.startswith(f"ONNX Runtime cannot run '{path}' on x (1, 128): ")
    assert message.endswith("; --size sets its free sizes")
    assert bench(path, runs=1, sizes={"sequence": 4}).sizes == {"sequence": 4}


def test_the_int8_twin_has_weights_of_a_byte(tmp_path: Path) -> None:
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    bnnapps.export.export(torch.nn.Conv2d(4, 8, 3), torch.randn(2, 4, 6, 6), source)
    int8_twin(source, target, {"input": np.ones((1, 4, 6, 6), np.float32)})
    weights = [t for t in onnx.load(target).graph.initializer if list(t.dims) == [8, 4, 3, 3]]
    assert [t.data_type for t in weights] == [TensorProto.INT8]
    source.write_text("no model")
    with pytest.raises(ExportError, match=f"ONNX Runtime cannot quantize '{source}': "):
        int8_twin(source, target, {})


@pytest.mark.parametrize(
    ("layer", "shape", "last"),
    [(torch.nn.Linear(4, 8), (1, 4), "Sigmoid"), (torch.nn.Conv2d(4, 8, 3), (1, 4, 6, 6), "DequantizeLinear")],
    ids=["products alone", "whole"],
)
def test_what_follows_is_quantized_only_in_networks_of_convolutions(
    layer: torch.nn.Module, shape: tuple[int, ...], last: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    bnnapps.export.export(torch.nn.Sequential(layer, torch.nn.Sigmoid()), torch.randn(2, *shape[1:]), source)
    int8_twin(source, target, {"input": np.ones(shape, np.float32)})
    graph = onnx.load(target).graph
    assert next(node.op_type for node in graph.node if graph.output[0].name in node.output) == last
    assert [t.data_type for t in graph.initializer if len(t.dims) > 1] == [TensorProto.INT8]


def test_a_process_that_fails_has_no_footprint(tmp_path: Path) -> None:
    assert footprint(Candidate("gone", str(tmp_path / "gone.onnx"), False), {}, 1) is None


def test_the_bound_is_measured_where_the_instructions_have_one() -> None:
    if library.library_path() is None:
        assert popcount_bound(1) is None
        return
    before = library.isa()
    try:
        for name in library.available():
            library.set_isa(name)
            found = popcount_bound(1)
            assert (found is None) is (name not in ("avx512", "avx2"))
            assert found is None or found > 1e9
    finally:
        library.set_isa(before)

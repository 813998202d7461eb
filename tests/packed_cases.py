"""Drawn nodes of the domain bnnapps, with inputs and the outputs that tests/packed_reference.py computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from packed_reference import (
    Array,
    bits_last,
    bits_of_map,
    codes,
    conv,
    epilogue,
    max_pool,
    transposed,
    weight_bits,
)

from bnnapps.export.runtime.functions import DOMAIN, VERSION, functions

STEPS = ("scale", "bias", "residual", "before", "slope", "after")
NEUTRAL = {"scale": 1.0, "bias": 0.0, "residual": 0.0, "before": 0.0, "slope": 1.0, "after": 0.0}


@dataclass(frozen=True)
class Case:
    """One node: `inputs` in order; those in `fed` are inputs of the graph, the others initializers."""

    op_type: str
    attributes: dict[str, Any]
    inputs: dict[str, Array]
    expected: tuple[Array, ...]
    fed: tuple[str, ...]

    @property
    def feeds(self) -> dict[str, Array]:
        return {name: self.inputs[name] for name in self.fed}


def element(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def model_of(case: Case, symbolic: bool = True, opset: int = 18, bodies: bool = True) -> onnx.ModelProto:
    """A model of that one node, with every size of its inputs and outputs symbolic, or as they are."""

    def info(name: str, array: Array, prefix: str) -> onnx.ValueInfoProto:
        shape = [f"{prefix}{axis}" for axis in range(array.ndim)] if symbolic else list(array.shape)
        return helper.make_tensor_value_info(name, element(array), shape)

    names = [f"out{i}" for i in range(len(case.expected))]
    node = helper.make_node(case.op_type, list(case.inputs), names, domain=DOMAIN)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in case.attributes.items())
    graph = helper.make_graph(
        [node],
        "one_node",
        [info(name, array, name) for name, array in case.feeds.items()],
        [info(name, array, name) for name, array in zip(names, case.expected, strict=True)],
        [numpy_helper.from_array(array, name) for name, array in case.inputs.items() if name not in case.fed],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)],
        functions=functions([case.op_type], opset) if bodies else [],
        ir_version=9,
    )


def same(outputs: list[Array], expected: tuple[Array, ...]) -> None:
    """Equal in type, shape and every element. The sign of a zero is not specified, since steps may be left out."""
    assert len(outputs) == len(expected)
    for output, wanted in zip(outputs, expected, strict=True):
        assert output.dtype == wanted.dtype
        assert output.shape == wanted.shape
        assert np.array_equal(output, wanted, equal_nan=output.dtype == np.float32)


def _booleans(draw: st.DrawFn, *shape: int) -> Array:
    kind = draw(st.sampled_from(["random", "random", "random", "high", "low"]))
    if kind != "random":
        return np.full(shape, kind == "high")
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random(shape) < 0.5


def _floats(draw: st.DrawFn, *shape: int) -> Array:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = generator.normal(size=shape).astype(np.float32)
    return np.round(values * 4) / np.float32(4) if draw(st.booleans()) else values


def _steps(draw: st.DrawFn, outputs: int, shape: tuple[int, ...], bits: bool) -> dict[str, Array]:
    steps = {}
    for name in STEPS:
        choice = draw(st.sampled_from(["neutral", "one", "each"]))
        if choice == "neutral":
            steps[name] = np.array([NEUTRAL[name]], np.float32)
        elif choice == "one":
            steps[name] = _floats(draw, 1)
        else:
            steps[name] = _floats(draw, *(shape if name == "residual" else (outputs,)))
    if bits:
        steps["next"] = _floats(draw, draw(st.sampled_from([1, outputs])))
    return steps


def _finish(draw: st.DrawFn, op_type: str, attributes: dict[str, Any], x: Array, w: Array, z: Array, axis: int) -> Case:
    """The case of an operator with weights, from its sums z with the outputs at `axis`."""
    inputs = {"X": x, "weight": w}
    outputs = z.shape[axis]
    if op_type.endswith("Integer"):
        expected: tuple[Array, ...] = (z,)
    elif "Float" not in op_type:
        reach = max(1, int(np.abs(z).max(initial=0)))
        generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        inputs["threshold"] = generator.integers(-reach, reach, outputs, dtype=np.int32, endpoint=True)
        if draw(st.booleans()):
            extreme = np.array([-(2**31), 2**31 - 1], np.int32)
            inputs["threshold"][: min(2, outputs)] = extreme[: min(2, outputs)]
        expected = (bits_last(np.moveaxis(z, axis, -1) >= inputs["threshold"]),)
    else:
        if op_type.endswith("Last"):
            z, axis = np.moveaxis(z, axis, -1), z.ndim - 1
        inputs |= _steps(draw, outputs, z.shape, "Bits" in op_type)
        value = epilogue(z, inputs, axis)
        expected = (value,)
        if "Bits" in op_type:
            expected += (bits_last(np.moveaxis(value, axis, -1) >= inputs["next"]),)
    fed = ["X"]
    fed += [name for name in inputs if name != "X" and draw(st.integers(0, 9)) == 0]
    if "residual" in inputs and inputs["residual"].ndim > 1 and "residual" not in fed:
        fed.append("residual")
    return Case(op_type, attributes, inputs, expected, tuple(sorted(fed, key=list(inputs).index)))


def _windows(draw: st.DrawFn, rank: int) -> dict[str, Any]:
    def each(low: int, high: int, count: int = rank) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    return {
        "kernel_shape": each(1, 3),
        "strides": each(1, 3),
        "dilations": each(1, 2),
        "pads": each(0, 2, 2 * rank),
    }


def _sizes(draw: st.DrawFn, a: dict[str, Any], most: int = 7) -> list[int]:
    """Sizes whose windows fit at least once."""
    rank = len(a["strides"])
    sizes = []
    for i in range(rank):
        reach = a["dilations"][i] * (a["kernel_shape"][i] - 1) + 1
        least = max(1, reach - a["pads"][i] - a["pads"][rank + i])
        sizes.append(draw(st.integers(least, max(least, most if rank < 3 else 4))))
    return sizes


BATCHES = st.sampled_from([0, 1, 1, 2, 3])
CHANNELS = st.sampled_from([1, 2, 3, 7, 8, 20, 31, 32, 33, 64, 65])


@st.composite
def convs(draw: st.DrawFn, op_type: str) -> Case:
    rank = draw(st.integers(1, 3))
    low = draw(st.sampled_from([-1.0, 0.0]))
    attributes = _windows(draw, rank)
    group = draw(st.sampled_from([1, 1, 2, 3]))
    channels = draw(CHANNELS) if group == 1 else group * draw(st.sampled_from([1, 3, 8, 11, 32, 33]))
    outputs = group * draw(st.sampled_from([1, 5, 16, 33] if group == 1 else [1, 5, 16]))
    attributes |= {
        "group": group,
        "channels": [channels],
        "pad_value": draw(st.sampled_from([-1.0, 0.0, 1.0] if low < 0 else [0.0, 1.0])),
        "low": low,
    }
    x = _booleans(draw, draw(BATCHES), channels, *_sizes(draw, attributes))
    w = _booleans(draw, outputs, channels // group, *attributes["kernel_shape"])
    z = conv(x, w, low, attributes)
    return _finish(draw, op_type, attributes, bits_of_map(x), weight_bits(w), z, 1)


@st.composite
def transposes(draw: st.DrawFn, op_type: str) -> Case:
    rank = draw(st.integers(1, 3))
    low = draw(st.sampled_from([-1.0, 0.0]))
    attributes = _windows(draw, rank)
    more = [draw(st.integers(0, stride - 1)) for stride in attributes["strides"]]
    group = draw(st.sampled_from([1, 1, 2, 3]))
    channels = group * draw(st.sampled_from([1, 3, 8, 20, 33]))
    outputs = group * draw(st.sampled_from([1, 3, 16, 33]))
    sizes = [draw(st.integers(1, 5 if rank < 3 else 3)) for _ in range(rank)]
    for i in range(rank):
        reach = attributes["dilations"][i] * (attributes["kernel_shape"][i] - 1) + 1
        full = attributes["strides"][i] * (sizes[i] - 1) + reach + more[i]
        attributes["pads"][i] = min(attributes["pads"][i], full - 1)
        attributes["pads"][rank + i] = min(attributes["pads"][rank + i], full - 1 - attributes["pads"][i])
    attributes |= {
        "output_padding": more,
        "group": group,
        "channels": [channels],
        "outputs": [outputs],
        "low": low,
    }
    x = _booleans(draw, draw(BATCHES), channels, *sizes)
    w = _booleans(draw, channels, outputs // group, *attributes["kernel_shape"])
    z = transposed(x, w, low, attributes)
    return _finish(draw, op_type, attributes, bits_of_map(x), weight_bits(w), z, 1)


@st.composite
def denses(draw: st.DrawFn, op_type: str) -> Case:
    low = draw(st.sampled_from([-1.0, 0.0]))
    terms = draw(st.sampled_from([1, 5, 31, 32, 33, 64, 100, 257]))
    outputs = draw(st.sampled_from([1, 2, 15, 16, 17, 40]))
    lead = draw(st.lists(st.integers(0, 4), min_size=0, max_size=3))
    x = _booleans(draw, *lead, terms)
    w = _booleans(draw, outputs, terms)
    z = np.asarray(codes(x, low) @ codes(w, -1.0).T).astype(np.int32)
    return _finish(draw, op_type, {"channels": [terms], "low": low}, bits_last(x), weight_bits(w), z, z.ndim - 1)


@st.composite
def matmuls(draw: st.DrawFn, op_type: str) -> Case:
    low = draw(st.sampled_from([-1.0, 0.0]))
    terms = draw(st.sampled_from([1, 8, 31, 32, 33, 64, 100]))
    lead = draw(st.lists(st.integers(0, 3), min_size=0, max_size=2))
    m, n = draw(st.integers(0, 9)), draw(st.integers(1, 40))
    a, b = _booleans(draw, *lead, m, terms), _booleans(draw, *lead, n, terms)
    z = (codes(a, low) @ np.swapaxes(codes(b, -1.0), -1, -2)).astype(np.int32)
    inputs = {"A": bits_last(a), "B": bits_last(b)}
    fed = ["A", "B"]
    expected: tuple[Array, ...] = (z,)
    if not op_type.endswith("Integer"):
        inputs["scale"] = _floats(draw, 1)
        full = z.shape
        kept = [draw(st.booleans()) for _ in full]
        addend = tuple(size if keep else 1 for size, keep in zip(full, kept, strict=True))
        addend = addend[draw(st.integers(0, len(addend) - 1)) :]
        inputs["addend"] = _floats(draw, *addend)
        if draw(st.booleans()):
            inputs["addend"][inputs["addend"] > 0.5] = -np.inf  # a mask
        value = z.astype(np.float32) * inputs["scale"] + inputs["addend"]
        expected = (value,)
        if draw(st.booleans()):
            fed.append("addend")
        if op_type.endswith("Bits"):
            inputs["threshold"] = _floats(draw, 1)
            expected = (bits_last(value >= inputs["threshold"]),)
    known = low < 0 or draw(st.booleans())
    return Case(op_type, {"channels": [terms if known else 0], "low": low}, inputs, expected, tuple(fed))


@st.composite
def pools(draw: st.DrawFn, op_type: str) -> Case:
    attributes = _windows(draw, draw(st.integers(1, 3)))
    channels = draw(CHANNELS)
    x = _booleans(draw, draw(BATCHES), channels, *_sizes(draw, attributes))
    expected = bits_of_map(max_pool(x, attributes))
    return Case(op_type, attributes | {"channels": [channels]}, {"X": bits_of_map(x)}, (expected,), ("X",))


@st.composite
def packs(draw: st.DrawFn, op_type: str) -> Case:
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=5))
    axis = draw(st.integers(0, len(shape) - 1))
    shape[axis] = draw(CHANNELS)
    x = _floats(draw, *shape)
    x[np.abs(x) < 0.2] = draw(st.sampled_from([0.0, -0.0]))
    if draw(st.integers(0, 4)) == 0:
        x[x > 1] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    each = draw(st.booleans())
    threshold = _floats(draw, shape[axis]) if each else np.array([draw(st.sampled_from([0.0, 0.5]))], np.float32)
    expected = bits_last(np.moveaxis(x, axis, -1) >= threshold)
    fed = ("X", "threshold") if draw(st.integers(0, 4)) == 0 else ("X",)
    return Case(op_type, {"axis": axis}, {"X": x, "threshold": threshold}, (expected,), fed)


@st.composite
def unpacks(draw: st.DrawFn, op_type: str) -> Case:
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=5))
    axis = draw(st.integers(0, len(shape) - 1))
    shape[axis] = draw(CHANNELS)
    low = draw(st.sampled_from([-1.0, 0.0]))
    high = _booleans(draw, *shape)
    attributes = {"axis": axis, "channels": [shape[axis]], "low": low}
    expected = codes(high, low).astype(np.float32)
    return Case(op_type, attributes, {"X": bits_last(np.moveaxis(high, axis, -1))}, (expected,), ("X",))


def cases(op_type: str) -> st.SearchStrategy[Case]:
    """Nodes of that operator."""
    for prefix, strategy in (
        ("BinaryConvTranspose", transposes),
        ("BinaryConv", convs),
        ("BinaryDense", denses),
        ("BinaryMatMul", matmuls),
        ("BinaryMaxPool", pools),
        ("Pack", packs),
        ("Unpack", unpacks),
    ):
        if op_type.startswith(prefix):
            return strategy(op_type)
    raise KeyError(op_type)

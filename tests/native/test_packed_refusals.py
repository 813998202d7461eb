"""Bad nodes: a status of ONNX Runtime with a message that names the operator and what was expected, never a crash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as states
from packed_cases import NEUTRAL, STEPS, Case, model_of
from packed_sessions import kernel_session

REFUSALS = (
    states.Fail, states.InvalidArgument, states.InvalidGraph, states.InvalidProtobuf, states.NotImplemented,
    states.RuntimeException,
)  # fmt: skip
U8 = np.uint8


def zeros(*shape: int, dtype: Any = U8) -> np.ndarray:
    return np.zeros(shape, dtype)


WINDOW = {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "pads": [1, 1, 1, 1]}
CONV = WINDOW | {"group": 1, "channels": [40], "pad_value": 0.0, "low": -1.0}
VECTORS = {name: np.array([NEUTRAL[name]], np.float32) for name in STEPS}
WEIGHT = zeros(5, 45)  # 40 * 9 bits
MAP = zeros(1, 4, 4, 8)

GOOD = {
    "conv": Case("BinaryConvInteger", CONV, {"X": MAP, "weight": WEIGHT}, (zeros(1, 5, 4, 4),), ("X",)),
    "bits": Case(
        "BinaryConvBits",
        CONV,
        {"X": MAP, "weight": WEIGHT, "threshold": zeros(5, dtype=np.int32)},
        (zeros(1, 4, 4, 4),),
        ("X",),
    ),
    "float": Case(
        "BinaryConvFloatBits",
        CONV,
        {"X": MAP, "weight": WEIGHT, **VECTORS, "next": zeros(1, dtype=np.float32)},
        (zeros(1, 5, 4, 4, dtype=np.float32), zeros(1, 4, 4, 4)),
        ("X",),
    ),
    "dense": Case(
        "BinaryDenseInteger",
        {"channels": [40], "low": -1.0},
        {"X": zeros(2, 8), "weight": zeros(3, 5)},
        (zeros(2, 3),),
        ("X",),
    ),
    "matmul": Case(
        "BinaryMatMulFloat",
        {"channels": [40], "low": -1.0},
        {
            "A": zeros(2, 3, 8),
            "B": zeros(2, 4, 8),
            "scale": np.ones(1, np.float32),
            "addend": np.ones((3, 1), np.float32),
        },
        (zeros(2, 3, 4, dtype=np.float32),),
        ("A", "B"),
    ),
    "pool": Case("BinaryMaxPool", WINDOW | {"channels": [40]}, {"X": MAP}, (zeros(1, 4, 4, 8),), ("X",)),
    "transposed": Case(
        "BinaryConvTransposeInteger",
        WINDOW | {"output_padding": [0, 0], "group": 1, "channels": [40], "outputs": [5], "low": -1.0},
        {"X": MAP, "weight": zeros(40, 6)},
        (zeros(1, 5, 4, 4),),
        ("X",),
    ),
    "pack": Case(
        "Pack",
        {"axis": 1},
        {"X": zeros(2, 3, dtype=np.float32), "threshold": zeros(1, dtype=np.float32)},
        (zeros(2, 4),),
        ("X",),
    ),
    "unpack": Case(
        "Unpack",
        {"axis": 1, "channels": [3], "low": -1.0},
        {"X": zeros(2, 4)},
        (zeros(2, 3, dtype=np.float32),),
        ("X",),
    ),
}
GOOD["conv"] = replace(GOOD["conv"], expected=(zeros(1, 5, 4, 4, dtype=np.int32),))
GOOD["dense"] = replace(GOOD["dense"], expected=(zeros(2, 3, dtype=np.int32),))
GOOD["transposed"] = replace(GOOD["transposed"], expected=(zeros(1, 5, 4, 4, dtype=np.int32),))


def attempt(case: Case) -> list[np.ndarray]:
    model = model_of(case, bodies=False)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    for given in model.graph.input:
        given.type.tensor_type.ClearField("shape")
    return kernel_session(model).run(None, case.feeds)


def refused(case: Case, message: str) -> None:
    with pytest.raises(REFUSALS, match=message) as caught:
        attempt(case)
    assert case.op_type in str(caught.value)


@pytest.mark.parametrize("name", GOOD)
def test_the_nodes_that_are_spoilt_below_are_good(name: str) -> None:
    outputs = attempt(GOOD[name])
    assert [output.shape for output in outputs] == [wanted.shape for wanted in GOOD[name].expected]


BAD_ATTRIBUTES = [
    ("conv", {"pads": [-1, 0, 0, 0]}, r"'pads' is \[-1, 0, 0, 0\]"),
    ("conv", {"pads": [1, 1]}, "'pads' has 2 entries, expected 4"),
    ("conv", {"pads": [2**62] * 4}, "."),
    ("conv", {"strides": [0, 1]}, "'strides'.*at least 1"),
    ("conv", {"strides": [1]}, "'strides' has 1 entries, expected 2"),
    ("conv", {"dilations": [2**40, 1]}, "."),
    ("conv", {"kernel_shape": [3, 3, 3, 3]}, "1 to 3 spatial dimensions"),
    ("conv", {"kernel_shape": [2**40, 2**40]}, "at most 2147483647"),
    ("conv", {"kernel_shape": [2**31 - 1] * 3, "strides": [1] * 3, "dilations": [1] * 3, "pads": [0] * 6}, "overflow"),
    ("conv", {"kernel_shape": [0, 3]}, "'kernel_shape'.*at least 1"),
    ("conv", {"kernel_shape": [5, 3]}, "'weight' has shape"),
    ("conv", {"group": 0}, "'group' is 0"),
    ("conv", {"group": 3}, "'group' is 3.*does not divide the 40 channels"),
    ("conv", {"group": 2**31}, "'group'"),
    ("conv", {"channels": [0]}, "'channels' is 0"),
    ("conv", {"channels": [-32]}, "'channels' is -32"),
    ("conv", {"channels": [2**62]}, "."),
    ("conv", {"channels": [33]}, "'weight'"),
    ("conv", {"channels": [40, 40]}, "'channels' has 2 entries"),
    ("conv", {"pad_value": 0.5}, "'pad_value' is 0.5"),
    ("conv", {"pad_value": float("nan")}, "'pad_value'"),
    ("conv", {"low": 1.0}, "'low' is 1"),
    ("conv", {"low": float("nan")}, "'low'"),
    ("conv", {"low": 0.0, "pad_value": -1.0}, "'pad_value' is -1"),
    ("dense", {"channels": [41]}, "'weight' has shape"),
    ("dense", {"channels": [2**63 - 1]}, "."),
    ("matmul", {"channels": [0]}, "'channels' is 0"),
    ("matmul", {"channels": [-5]}, "'channels' is -5"),
    ("matmul", {"channels": [65]}, "rows of 8 bytes, expected 12"),
    ("pool", {"kernel_shape": [2**62, 1]}, "."),
    ("pool", {"channels": [65]}, "8 bytes per position, but 65 channels take 12"),
    ("pool", {"kernel_shape": [9, 9]}, "."),
    ("transposed", {"output_padding": [1, 0]}, "'output_padding' is .*below its stride"),
    ("transposed", {"output_padding": [0]}, "'output_padding'"),
    ("transposed", {"outputs": [0]}, "'group'"),
    ("transposed", {"outputs": [2**62]}, "."),
    ("transposed", {"pads": [9, 9, 9, 9]}, "."),
    ("transposed", {"group": 7}, "'group' is 7"),
    ("transposed", {"strides": [2**15, 2**15]}, "'strides' is .*product is more than 4096"),
    ("pack", {"axis": -1}, "'axis' is -1"),
    ("pack", {"axis": 2}, "axis 2"),
    ("unpack", {"axis": 2}, "axis 2"),
    ("unpack", {"channels": [33]}, "expected 8 bytes"),
]


@pytest.mark.parametrize(("name", "attributes", "message"), BAD_ATTRIBUTES)
def test_a_bad_attribute_is_refused(name: str, attributes: dict[str, Any], message: str) -> None:
    refused(replace(GOOD[name], attributes=GOOD[name].attributes | attributes), message)


@pytest.mark.parametrize("name", ["conv", "dense", "matmul", "pool", "transposed", "pack", "unpack"])
def test_every_attribute_is_required(name: str) -> None:
    for missing in GOOD[name].attributes:
        left = {key: value for key, value in GOOD[name].attributes.items() if key != missing}
        refused(replace(GOOD[name], attributes=left), f"'{missing}' is missing")


@pytest.mark.parametrize("name", ["conv", "dense", "pack"])
def test_an_attribute_of_another_type_is_refused(name: str) -> None:
    for key, value in GOOD[name].attributes.items():
        other: Any = "text" if isinstance(value, list) else [1.5, 2.5]
        refused(replace(GOOD[name], attributes=GOOD[name].attributes | {key: other}), f"attribute '{key}'")


BAD_INPUTS = [
    ("conv", "X", zeros(1, 4, 8), "'X' has shape .*expected 4 dimensions"),
    ("conv", "X", zeros(8), "'X' has shape"),
    ("conv", "X", zeros(), "'X' has shape"),
    ("conv", "X", zeros(1, 4, 4, 7), "7 bytes per position, but 40 channels take 8"),
    ("conv", "X", zeros(1, 4, 4, 4), "4 bytes per position"),
    ("conv", "X", zeros(1, 0, 4, 8), "."),
    ("conv", "X", zeros(0, 0, 4, 8), "."),
    ("conv", "weight", zeros(5, 44), "'weight' has shape .*expected .*45"),
    ("conv", "weight", zeros(5, 46), "'weight' has shape"),
    ("conv", "weight", zeros(0, 45), "'weight' has shape"),
    ("conv", "weight", zeros(225), "'weight' has shape"),
    ("bits", "threshold", zeros(4, dtype=np.int32), r"'threshold' has shape \[4\], expected \[5\]"),
    ("bits", "threshold", zeros(1, dtype=np.int32), r"'threshold' has shape \[1\], expected \[5\]"),
    ("float", "scale", zeros(4, dtype=np.float32), r"'scale' has shape \[4\], expected \[5\] or \[1\]"),
    ("float", "bias", zeros(5, 1, dtype=np.float32), r"'bias' has shape \[5, 1\]"),
    ("float", "before", zeros(0, dtype=np.float32), r"'before' has shape \[0\]"),
    ("float", "next", zeros(6, dtype=np.float32), r"'next' has shape \[6\]"),
    ("float", "residual", zeros(1, 4, 4, 5, dtype=np.float32), "'residual' has shape"),
    ("float", "residual", zeros(2, dtype=np.float32), "'residual' has shape"),
    ("dense", "X", zeros(2, 4), "expected 8 bytes in the last"),
    ("dense", "X", zeros(), "'X' has shape"),
    ("dense", "weight", zeros(3, 6), "'weight' has shape"),
    ("matmul", "A", zeros(3, 8), "'A' and 'B' have shapes"),
    ("matmul", "A", zeros(1, 3, 8), "'A' and 'B' have shapes"),
    ("matmul", "B", zeros(2, 4, 4), "'A' and 'B' have shapes"),
    ("matmul", "B", zeros(8), "'A' and 'B' have shapes"),
    ("matmul", "scale", zeros(3, dtype=np.float32), "'scale' has shape"),
    ("matmul", "addend", zeros(4, 3, dtype=np.float32), "does not broadcast"),
    ("matmul", "addend", zeros(5, 2, 3, 4, dtype=np.float32), "does not broadcast"),
    ("matmul", "addend", zeros(0, dtype=np.float32), "does not broadcast"),
    ("pool", "X", zeros(1, 4, 4, 4), "4 bytes per position"),
    ("pool", "X", zeros(4, 4, 8), "expected 4 dimensions"),
    ("transposed", "weight", zeros(5, 45), "'weight' has shape"),
    ("transposed", "X", zeros(1, 4, 4, 12), "12 bytes per position"),
    ("pack", "threshold", zeros(2, dtype=np.float32), r"'threshold' has shape \[2\], expected \[1\] or \[3\]"),
    ("pack", "X", zeros(dtype=np.float32), "axis 1"),
    ("unpack", "X", zeros(), "axis 1"),
]


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("name", "place", "value", "message"), BAD_INPUTS)
def test_a_bad_input_is_refused_whether_constant_or_fed(
    name: str, place: str, value: np.ndarray, message: str, constant: bool
) -> None:
    case = GOOD[name]
    fed = tuple(key for key in case.inputs if key in case.fed or (key == place and not constant))
    refused(replace(case, inputs=case.inputs | {place: value}, fed=fed), message)


@pytest.mark.parametrize("name", GOOD)
def test_inputs_of_another_type_are_refused(name: str) -> None:
    for place, value in GOOD[name].inputs.items():
        other = value.astype(np.int64)
        with pytest.raises(REFUSALS, match=r"(?i)type"):
            attempt(replace(GOOD[name], inputs=GOOD[name].inputs | {place: other}))


@pytest.mark.parametrize("name", ["conv", "float", "matmul", "pack"])
def test_a_missing_input_is_refused(name: str) -> None:
    last = list(GOOD[name].inputs)[-1]
    left = {key: value for key, value in GOOD[name].inputs.items() if key != last}
    with pytest.raises(REFUSALS, match=GOOD[name].op_type):
        attempt(replace(GOOD[name], inputs=left))


def test_an_output_too_large_for_any_memory_is_refused() -> None:
    attributes = CONV | {"pads": [2**30, 2**30, 2**30, 2**30]}
    refused(replace(GOOD["conv"], attributes=attributes), ".")


def test_a_refusal_leaves_the_session_usable() -> None:
    case = GOOD["conv"]
    model = model_of(case, bodies=False)
    session = kernel_session(model)
    for _ in range(3):
        with pytest.raises(REFUSALS, match="'X' has"):
            session.run(None, {"X": zeros(1, 4, 4, 4)})
        assert session.run(None, case.feeds)[0].shape == (1, 5, 4, 4)

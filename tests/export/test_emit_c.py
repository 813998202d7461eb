"""The C form of packed files: compiled and run, it computes what the golden model computes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnnapps.export
from bnnapps.errors import ExportError, UsageError
from bnnapps.export.emit import text
from bnnapps.export.ir.operators import compute
from bnnapps.export.runtime.functions import DOMAIN, VERSION
from bnnapps.kernels import library

NATIVE = Path(__file__).resolve().parents[2] / "export" / "runtime" / "native"

WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1], "dilations": [1, 2], "pads": [1, 0, 2, 1], "group": 2}
CONV = WINDOW | {"channels": [70], "pad_value": 1.0, "low": -1.0}
TRANSPOSED = WINDOW | {"channels": [70], "outputs": [6], "output_padding": [1, 0], "low": 0.0}
DENSE = {"channels": [70], "low": 0.0}
STEPS = ("scale", "bias", "residual", "before", "slope", "after")

CASES: list[tuple[str, dict[str, Any], tuple[int, ...], tuple[int, int]]] = [
    (f"BinaryConv{kind}", CONV, (2, 5, 4), (36, 27))
    for kind in ("Integer", "Bits", "Float", "FloatBits", "FloatLast", "FloatBitsLast")
]
CASES += [(f"BinaryConvTranspose{kind}", TRANSPOSED, (2, 3, 4), (70, 3)) for kind in ("Integer", "Bits", "Float")]
CASES += [(f"BinaryDense{kind}", DENSE, (5,), (33, 9)) for kind in ("Integer", "Bits", "Float", "FloatBits")]


def _bits(generator: np.random.Generator, positions: tuple[int, ...], channels: int) -> np.ndarray:
    padded = np.zeros((*positions, -(-channels // 32) * 32), np.uint8)
    padded[..., :channels] = generator.integers(0, 2, (*positions, channels))
    return np.packbits(padded, axis=-1, bitorder="little")


def _weight(generator: np.random.Generator, rows: int, count: int) -> np.ndarray:
    return np.packbits(generator.integers(0, 2, (rows, count), dtype=np.uint8), axis=1, bitorder="little")


def _constants(op_type: str, generator: np.random.Generator, weight: np.ndarray, outputs: int) -> dict[str, np.ndarray]:
    constants = {"weight": weight}
    if op_type.endswith("Bits") and "Float" not in op_type:
        constants["threshold"] = generator.integers(-9, 9, outputs).astype(np.int32)
    if "Float" in op_type:
        constants |= {step: generator.normal(size=outputs).astype(np.float32) for step in STEPS}
        constants["residual"] = np.zeros(1, np.float32)
        constants["before"] = np.full(1, -1.5, np.float32)
        constants["slope"] = np.ones(1, np.float32)
    if "FloatBits" in op_type:
        constants["next"] = generator.normal(size=outputs).astype(np.float32)
    return constants


def _save(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Path:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, VERSION)]
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, None)
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.UNDEFINED, None)]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", [x], outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def _compile(folder: Path, prefix: str, compiler: str) -> Path:
    shared = library.library_path()
    found = shutil.which(compiler)
    assert shared is not None
    assert found is not None, f"there is no {compiler}"
    program = folder / "program"
    command = [found, "-O1", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE / 'include'}"]
    command += ["-x", "c++", "-std=c++17"] if compiler == "g++" else ["-std=c99"]
    command += [str(folder / f"{prefix}_layer.c"), "-x", "none", str(shared), f"-Wl,-rpath,{shared.parent}"]
    subprocess.run([*command, "-o", str(program)], check=True)
    return program


@pytest.mark.parametrize(("op_type", "attributes", "positions", "stored"), CASES, ids=[case[0] for case in CASES])
def test_a_layer_in_c_computes_what_the_golden_model_computes(
    tmp_path: Path, op_type: str, attributes: dict[str, Any], positions: tuple[int, ...], stored: tuple[int, int]
) -> None:
    generator = np.random.default_rng(len(op_type))
    taps = int(np.prod(attributes.get("kernel_shape", [])))
    per_row = {"BinaryConv": 35 * taps, "BinaryConvTranspose": 3 * taps, "BinaryDense": 70}
    weight = _weight(generator, stored[0], per_row[max((k for k in per_row if op_type.startswith(k)), key=len)])
    outputs = attributes.get("outputs", [stored[0]])[0]
    constants = _constants(op_type, generator, weight, outputs)
    ends = ["y", "bits"] if "FloatBits" in op_type else ["y"]
    node = helper.make_node(op_type, ["x", *constants], ends, name="layer/1", domain=DOMAIN)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    header = bnnapps.export.emit_c(_save(tmp_path / "one.onnx", [node], constants), tmp_path / "c")
    assert header == tmp_path / "c" / "one.h"

    x = _bits(generator, positions, 70)
    wanted = compute(op_type, attributes, [x, *constants.values()])
    program = _compile(tmp_path / "c", "one", "gcc" if "Dense" in op_type else "g++")
    arguments = [program, *map(str, positions)]
    done = subprocess.run(arguments, input=x.tobytes(), capture_output=True, check=True)
    lines = done.stdout.split()
    for part in map(np.ascontiguousarray, wanted):
        flat = (part.view("<u4") if part.dtype == np.uint8 else part).reshape(-1)
        found = np.array(lines[: flat.size], np.float64).astype(flat.dtype)
        assert np.array_equal(found, flat)
        del lines[: flat.size]
    assert not lines


def test_a_whole_exported_network_compiles(tmp_path: Path) -> None:
    """Also names that are the same in C, thresholds of packings, and shapes of poolings."""
    generator = np.random.default_rng(0)
    constants = {"zero": np.zeros(1, np.float32), "weight": _weight(generator, 40, 40)}
    pool = {key: WINDOW[key] for key in ("kernel_shape", "strides", "dilations", "pads")} | {"channels": [40]}
    nodes = [
        helper.make_node("Pack", ["x", "zero"], ["a"], name="*/ int broken", domain=DOMAIN, axis=1),
        helper.make_node("BinaryMaxPool", ["a"], ["b"], name="1", domain=DOMAIN, **pool),
    ]
    for at, name in enumerate(("a.b", "a/b", "a__b", "a_b_2", "", "int", "é")):
        attributes = {"channels": [40], "low": -1.0}
        nodes.append(
            helper.make_node("BinaryDenseInteger", ["b", "weight"], [f"y{at}"], name=name, domain=DOMAIN, **attributes)
        )
    header = bnnapps.export.emit_c(_save(tmp_path / "2 nets.onnx", nodes, constants), tmp_path / "c")
    assert header.name == "net_2_nets.h"
    _compile(tmp_path / "c", "net_2_nets", "gcc")
    _compile(tmp_path / "c", "net_2_nets", "g++")
    written = header.read_text()
    assert written.count("_weight[") == 7
    assert "net_2_nets_int_broken_threshold[1]" in written
    assert (
        "bnn_pool_shape net_2_nets_layer_1_shape = {2, 40, {3, 2, 1}, {2, 1, 1}, {1, 2, 1}, {1, 0, 0}, {2, 1, 0}}"
        in written
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(1), "1.0f"),
        (np.float32(0.1), "0.100000001f"),
        (np.float32(-0.0), "-0.0f"),
        (np.float32(1e-45), "1.40129846e-45f"),
        (np.float32(3e38), "3.00000001e+38f"),
        (np.float32("nan"), "NAN"),
        (np.float32("-inf"), "-INFINITY"),
        (np.int32(-(2**31)), "INT32_MIN"),
        (np.uint8(255), "255"),
    ],
)
def test_numbers_are_exact(value: Any, expected: str) -> None:
    assert text.number(value) == expected


def test_what_has_no_form_in_c_is_refused(tmp_path: Path) -> None:
    weight = {"weight": np.zeros((8, 5), np.uint8)}
    dense = {"channels": [40], "low": -1.0}
    pack = helper.make_node("Pack", ["x", "zero"], ["y"], domain=DOMAIN, axis=1)
    path = _save(tmp_path / "no_layers.onnx", [pack], {"zero": np.zeros(1, np.float32)})
    with pytest.raises(ExportError, match="no layers on bits"):
        bnnapps.export.emit_c(path, tmp_path / "c")
    node = helper.make_node("BinaryDenseBits", ["x", "weight", "t"], ["y"], name="free", domain=DOMAIN, **dense)
    path = _save(tmp_path / "free.onnx", [node], weight)
    with pytest.raises(ExportError, match="input 2 of the node 'free'"):
        bnnapps.export.emit_c(path, tmp_path / "c")
    constants = weight | {step: np.ones(1, np.float32) for step in STEPS}
    node = helper.make_node("BinaryDenseFloat", ["x", *constants], ["y"], name="added", domain=DOMAIN, **dense)
    path = _save(tmp_path / "added.onnx", [node], constants)
    with pytest.raises(ExportError, match="residual of the node 'added'"):
        bnnapps.export.emit_c(path, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    with pytest.raises(UsageError, match="is a file"):
        bnnapps.export.emit_c(path, path)

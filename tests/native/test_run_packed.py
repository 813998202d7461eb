"""The example program in C++ that runs a packed model with ONNX Runtime's C interface."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from packed_reference import weight_bits
from packed_sessions import plain_session

from bnnapps.export.runtime.functions import DOMAIN, VERSION, functions
from bnnapps.kernels import library

NATIVE = Path(__file__).parents[2] / "export" / "runtime" / "native"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("c++")
    assert compiler is not None, "there is no C++ compiler"
    (shared,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    folder = tmp_path_factory.mktemp("example")
    made = folder / "run_packed"
    (folder / "libonnxruntime.so.1").symlink_to(shared)  # the name that the library gives itself
    command = [compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE / 'include'}"]
    command += [str(NATIVE / "examples" / "run_packed.cpp"), str(shared), f"-Wl,-rpath,{folder}"]
    subprocess.run([*command, "-o", str(made)], check=True)
    return made


def _model() -> onnx.ModelProto:
    """Pack and a convolution that gives both floats and bits."""
    generator = np.random.default_rng(0)
    constants = {
        "zero": np.zeros(1, np.float32),
        "one": np.ones(1, np.float32),
        "weight": weight_bits(generator.random((33, 5, 3, 3)) < 0.5),
        "scale": generator.normal(size=33).astype(np.float32),
        "slope": generator.normal(size=33).astype(np.float32),
    }
    steps = ["scale", "zero", "zero", "zero", "slope", "zero", "zero"]
    attributes = {
        "kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "pads": [1, 1, 1, 1],
        "group": 1, "channels": [5], "pad_value": 0.0, "low": -1.0,
    }  # fmt: skip
    nodes = [
        helper.make_node("Pack", ["X", "zero"], ["a"], domain=DOMAIN, axis=1),
        helper.make_node("BinaryConvFloatBits", ["a", "weight", *steps], ["Y", "bits"], domain=DOMAIN, **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "example",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", 5, "H", "W"])],
        [
            helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["N", 33, "H", "W"]),
            helper.make_tensor_value_info("bits", TensorProto.UINT8, ["N", "H", "W", 8]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, VERSION)]
    bodies = functions(["Pack", "BinaryConvFloatBits"])
    return helper.make_model(graph, opset_imports=opsets, functions=bodies, ir_version=9)


@pytest.mark.parametrize("kernels", [True, False])
def test_the_example_prints_what_a_session_computes(program: Path, tmp_path: Path, kernels: bool) -> None:
    model = _model()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    x = np.random.default_rng(1).normal(size=(2, 5, 6, 7)).astype(np.float32)
    arguments = [program, path, library.library_path() if kernels else "none", *map(str, x.shape)]
    done = subprocess.run(arguments, input=x.tobytes(), capture_output=True, check=True)
    expected = plain_session(model).run(None, {"X": x})
    lines = done.stdout.decode().splitlines()
    assert [line.partition(" [")[0] for line in lines] == ["Y", "bits"]
    for line, wanted in zip(lines, expected, strict=True):
        sizes, _, elements = line.partition("[")[2].partition("]")
        assert tuple(map(int, sizes.split())) == wanted.shape
        found = np.array(elements.split(), np.float64).astype(wanted.dtype)
        assert np.array_equal(found.reshape(wanted.shape), wanted)


def test_the_example_says_what_is_wrong(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(_model(), path)
    for arguments, message in (
        ([path, "none", "1", "5", "4", "4"], "fewer than 80 elements"),
        ([path, "none", "1", "x"], "'x' is no size"),
        ([tmp_path / "none.onnx", "none", "1"], "none.onnx"),
        ([path, tmp_path / "none.so", "1"], "none.so"),
    ):
        done = subprocess.run([program, *map(str, arguments)], input=b"", capture_output=True, check=False)
        assert done.returncode == 1
        assert message in done.stderr.decode()

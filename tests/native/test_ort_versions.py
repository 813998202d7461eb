from __future__ import annotations

import sys
from pathlib import Path

import onnxruntime as ort
from ort_versions import try_version, write_models

from bnnapps.export.runtime.functions import OP_TYPES


def test_the_installed_onnx_runtime_passes_what_every_version_has_to_pass(tmp_path: Path) -> None:
    write_models(tmp_path, each=3)
    found = try_version(sys.executable, tmp_path)
    assert found["version"] == ort.__version__
    assert found["models"] == found["kernels"] == found["functions"] >= 2 * len(OP_TYPES)
    assert not found["problems"]


def test_another_result_is_noticed(tmp_path: Path) -> None:
    write_models(tmp_path, each=3)
    models = sorted(tmp_path.glob("BinaryDenseInteger_*.npz"))
    other = sorted(tmp_path.glob("BinaryDenseFloat_*.npz"))
    other[0].write_bytes(models[0].read_bytes())
    found = try_version(sys.executable, tmp_path)
    assert found["problems"]
    assert found["kernels"] < found["models"]

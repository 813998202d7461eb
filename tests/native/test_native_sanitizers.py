"""The C++ checks under the address and undefined-behaviour sanitizers.

`ctest` runs the same checks under the thread sanitizer, valgrind and emulators: see `CMakePresets.json`.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "export" / "runtime" / "native"

needs_compiler = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("c++") is None,
    reason="building the C++ checks needs cmake and a C++ compiler",
)


def build(folder: Path, *options: str) -> Path:
    """The program `bnn_check`, built with those options of CMake."""
    configure = ["cmake", "-S", str(NATIVE), "-B", str(folder), "-DBNN_EXTRAS=ON", "-DBNN_ORT=OFF", *options]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(
        ["cmake", "--build", str(folder), "--target", "bnn_check", "-j", "2"], check=True, capture_output=True
    )
    return folder / "bnn_check"


@needs_compiler
def test_no_bad_access_and_no_undefined_behaviour(tmp_path: Path) -> None:
    program = build(
        tmp_path, "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O1", "-DBNN_SANITIZE=address,undefined"
    )
    result = subprocess.run([program, "15", "11"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "portable: 15 cases equal the definitions" in result.stdout

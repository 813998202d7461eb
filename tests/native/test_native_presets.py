"""What the CMake presets build beside the library: the checks, the benchmark and both example programs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

NATIVE = Path(__file__).resolve().parents[2] / "export" / "runtime" / "native"


def _tool(name: str) -> str:
    """A program of CMake, which may be installed beside Python only."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f"there is no {name}"
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preset")
    (shared,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (folder / "libonnxruntime.so.1").symlink_to(shared)  # the name that the library gives itself
    options = [f"-DBNN_ONNXRUNTIME={folder / 'libonnxruntime.so.1'}", "-DBNN_WERROR=ON", "-DCMAKE_BUILD_TYPE=Debug"]
    options += [f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}", f"-DCMAKE_BUILD_RPATH={folder}"]
    configure = [_tool("cmake"), "--preset", "native", "-B", str(folder), *options]
    subprocess.run(configure, cwd=NATIVE, check=True, capture_output=True)
    subprocess.run([_tool("cmake"), "--build", str(folder), "-j", "2"], check=True, capture_output=True)
    return folder


def test_the_plain_example_runs(built: Path) -> None:
    done = subprocess.run([_tool("ctest"), "--test-dir", str(built), "-R", "^example$"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "100% tests passed" in done.stdout
    assert "out of 1" in done.stdout


def test_the_example_on_onnx_runtime_is_linked(built: Path) -> None:
    arguments = [built / "run_packed", built / "missing.onnx", "none", "1"]
    done = subprocess.run(arguments, input=b"", capture_output=True, check=False)
    assert done.returncode == 1
    assert "missing.onnx" in done.stderr.decode()


def test_without_onnx_runtime_the_example_is_still_compiled(tmp_path: Path) -> None:
    options = ["-DBNN_EXTRAS=ON", "-DBNN_WERROR=ON", "-DBNN_ONNXRUNTIME=BNN_ONNXRUNTIME-NOTFOUND"]
    options += ["-DCMAKE_DISABLE_FIND_PACKAGE_onnxruntime=ON", "-DCMAKE_FIND_LIBRARY_SUFFIXES=.none"]
    options += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}"]
    subprocess.run([_tool("cmake"), "-S", str(NATIVE), "-B", str(tmp_path), *options], check=True, capture_output=True)
    subprocess.run(
        [_tool("cmake"), "--build", str(tmp_path), "--target", "run_packed"], check=True, capture_output=True
    )
    assert list(tmp_path.rglob("run_packed.cpp.o"))

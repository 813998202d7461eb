"""Installing where there is no CMake: the package arrives, only without the compiled kernels."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BUILD = """
import sys
sys.path.insert(0, "tools")
import bnnapps_build
print(bnnapps_build.build_wheel(sys.argv[1]))
"""


def test_a_wheel_without_kernels(tmp_path: Path) -> None:
    # scikit-build-core takes this variable for its only candidate.
    environment = os.environ | {"CMAKE_EXECUTABLE": str(tmp_path / "no-cmake")}
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no compiled kernels" in done.stderr
    name = done.stdout.splitlines()[-1]
    assert name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(tmp_path / name) as wheel:
        files = wheel.namelist()
    assert "bnnapps/export/runtime/native/include/bnn.h" in files
    assert not any(Path(file).suffix in {".so", ".dylib", ".dll"} for file in files)

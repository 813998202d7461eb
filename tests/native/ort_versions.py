"""The packed operators in several versions of ONNX Runtime.

Usage: python tests/native/ort_versions.py PYTHON...

Each PYTHON is an interpreter (of a virtual environment, say) that has numpy and the version of onnxruntime to try:

    python -m venv ort117 && ort117/bin/pip install numpy && ort117/bin/pip install --no-deps onnxruntime==1.17.3

Draws nodes of every operator, writes them with their inputs and outputs to a folder, and runs that folder in each
interpreter, on the kernels and by the functions in the file. The exit status is that of the worst.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from packed_cases import Case, cases, model_of

from bnnapps.export.runtime.functions import OP_TYPES
from bnnapps.kernels import library

WORKER = Path(__file__).with_name("ort_version_worker.py")


def write_models(folder: Path, each: int = 20) -> None:
    """`each` drawn nodes of every operator, always the same ones."""
    for op_type in OP_TYPES:
        _write(folder, op_type, each)


def _write(folder: Path, op_type: str, each: int) -> None:
    numbers = itertools.count()

    @settings(max_examples=each, derandomize=True, database=None, deadline=None)
    @given(case=cases(op_type))
    def write(case: Case) -> None:
        model = model_of(case)
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        arrays = {f"in:{name}": array for name, array in case.feeds.items()}
        arrays |= {f"out:{i}": array for i, array in enumerate(case.expected)}
        stem = f"{op_type}_{next(numbers)}"
        onnx.save(model, folder / f"{stem}.onnx")
        np.savez(folder / f"{stem}.npz", **arrays)

    write()


def try_version(python: str, folder: Path) -> dict[str, Any]:
    """What one interpreter made of the folder."""
    path = library.library_path()
    if path is None:
        raise SystemExit("the kernels were not built")
    command = [python, str(WORKER), str(folder), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"version": python, "models": 1, "kernels": 0, "functions": 0, "problems": [done.stderr[-500:]]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(interpreters: list[str]) -> int:
    """Print a line per version; 0 if all is well everywhere."""
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder))
        for python in interpreters:
            found = try_version(python, Path(folder))
            exact = found["kernels"] == found["functions"] == found["models"] > 0
            print(
                f"{found['version']}: {found['kernels']} of {found['models']} on the kernels, "
                f"{found['functions']} by the functions"
            )
            for problem in found["problems"][:5]:
                print("   ", problem)
            worst |= not exact
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [sys.executable]))

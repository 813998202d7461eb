"""Runs a folder of models in this interpreter's ONNX Runtime. Needs numpy and onnxruntime, nothing of the project.

Usage: python ort_version_worker.py FOLDER LIBRARY. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def session(model: Path, library: str | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    if library is not None:
        options.register_custom_ops_library(library)
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def agrees(model: Path, library: str | None) -> bool:
    """Whether the outputs of a model are those beside it. The shapes that the session declares have to fit, too."""
    with np.load(model.with_suffix(".npz")) as arrays:
        feeds = {name.removeprefix("in:"): arrays[name] for name in arrays.files if name.startswith("in:")}
        expected = [arrays[name] for name in sorted(arrays.files) if name.startswith("out:")]
    ready = session(model, library)
    declared = [output.shape for output in ready.get_outputs()]
    fits = all(
        len(shape) == wanted.ndim
        and all(not isinstance(size, int) or size == real for size, real in zip(shape, wanted.shape, strict=True))
        for shape, wanted in zip(declared, expected, strict=True)
    )
    outputs = ready.run(None, feeds)
    return (fits or library is None) and all(
        a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype == np.float32)
        for a, b in zip(outputs, expected, strict=True)
    )


def main(folder: str, library: str) -> None:
    result = {"version": ort.__version__, "kernels": 0, "functions": 0, "models": 0, "problems": []}
    for model in sorted(Path(folder).glob("*.onnx")):
        result["models"] += 1
        for kind, path in (("kernels", library), ("functions", None)):
            try:
                right = agrees(model, path)
                problem = "" if right else "another result"
            except Exception as raised:
                right, problem = False, str(raised).splitlines()[0]
            result[kind] += right
            if not right:
                result["problems"].append(f"{model.stem} by {kind}: {problem}")
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])

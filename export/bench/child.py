"""Run as a program of its own: `child.py FILE LIBRARY THREADS FEEDS.npz` prints growth of memory and start time.

It imports no module of this package, whose size would hide that of the session.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

CALLS = 3


def main(file: str, library: str, threads: str, feeds: str) -> None:
    """Measure, and print one line of JSON."""
    arrays = dict(np.load(feeds))
    before = _peak()
    started, session = _open(file, library, int(threads))
    wanted = {value.name for value in session.get_inputs()}
    for _ in range(CALLS):
        session.run(None, {name: array for name, array in arrays.items() if name in wanted})
    after = _peak()
    del session
    starts = [started, *(_open(file, library, int(threads))[0] for _ in range(2))]
    grown = None if before is None or after is None else after - before
    print(json.dumps({"bytes": grown, "start": 1e3 * statistics.median(starts)}))


def _open(file: str, library: str, threads: int) -> tuple[float, Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    start = time.perf_counter()
    if library:
        options.register_custom_ops_library(library)
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return time.perf_counter() - start, session


def _peak() -> int | None:
    """The largest resident size of this process so far; `getrusage` would count the parent's as well."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("VmHWM:")), None)
    return None if found is None else 1024 * int(found[1])


if __name__ == "__main__":
    main(*sys.argv[1:])

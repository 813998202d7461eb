"""Peak memory and start time of a file, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnnapps.export.bench.feeds import Feeds
from bnnapps.export.bench.latency import Candidate
from bnnapps.kernels.library import library_path

_CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Footprint:
    """What a session costs beside its calls.

    Attributes:
        name: of the candidate.
        bytes: how much the memory of the process grew at most, from before the session to after some calls; `None`
            where the system does not say.
        start: how long opening the session takes, in milliseconds (the median of three).

    """

    name: str
    bytes: int | None
    start: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def footprint(one: Candidate, feeds: Feeds, threads: int) -> Footprint | None:
    """Measure in a fresh process that imports ONNX Runtime and nothing of ours; `None` if that process fails."""
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "feeds.npz"
        np.savez(arrays, **feeds)  # type: ignore[arg-type]
        library = str(library_path()) if one.kernels else ""
        command = [sys.executable, str(_CHILD), one.path, library, str(threads), str(arrays)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    return Footprint(one.name, found["bytes"], found["start"])

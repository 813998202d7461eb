"""Latencies of several files, measured in turns, so that a busy machine hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from bnnapps.export.bench.feeds import Feeds

WARM_UP = 3


@dataclass(frozen=True)
class Candidate:
    """A file to measure.

    Attributes:
        name: "packed", or what kind of twin it is.
        path: the file.
        kernels: whether it runs on our kernels.

    """

    name: str
    path: str
    kernels: bool


@dataclass(frozen=True)
class Latency:
    """How long one call of a file takes, in milliseconds: median, and the 10th and 90th percentile."""

    name: str
    threads: int
    batch: int
    runs: int
    median: float
    p10: float
    p90: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def options_for(threads: int) -> Any:
    """Options of a session: so many threads, which rest between calls, or they would slow down the next candidate."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def measure(
    calls: Mapping[str, Callable[[], object]],
    threads: int,
    batch: int,
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Latency]:
    """The latency of every call, one of each in turn; who begins changes from round to round."""
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(-WARM_UP, runs):
        first = i % len(names)
        for name in (*names[first:], *names[:first]):
            start = clock()
            calls[name]()
            if i >= 0:
                times[name].append(1e3 * (clock() - start))
    return [_latency(name, threads, batch, values) for name, values in times.items()]


def call_of(session: Any, feeds: Feeds) -> Callable[[], object]:
    """A call of a session; inputs that its graph has no use for are left out."""
    wanted = {value.name for value in session.get_inputs()}
    fed = {name: array for name, array in feeds.items() if name in wanted}
    return lambda: session.run(None, fed)


def _latency(name: str, threads: int, batch: int, values: list[float]) -> Latency:
    p10, median, p90 = (float(v) for v in np.percentile(values, (10, 50, 90)))
    return Latency(name, threads, batch, len(values), median, p10, p90)

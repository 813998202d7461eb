"""Pools that the library makes: threads of its own, and the team of an OpenMP runtime."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch  # noqa: F401 - brings an OpenMP runtime into the process
from kernel_calls import address, pack_last

from bnnapps.kernels import structures as c
from bnnapps.kernels.library import RuntimeLibraryError, check, load_library

TEAM = (
    ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p)
    if hasattr(ctypes.CDLL(None), "GOMP_parallel")
    else None
)
TEAMS = [None] if TEAM is None else [None, TEAM]


@contextmanager
def pool(threads: int, team: Any) -> Iterator[Any]:
    made = ctypes.POINTER(c.Pool)()
    check(load_library().bnn_pool_create(threads, team, ctypes.byref(made)))
    try:
        yield made
    finally:
        load_library().bnn_pool_destroy(made)


@pytest.mark.parametrize("team", TEAMS)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_task_runs_once(team: Any, threads: int) -> None:
    with pool(threads, team) as made:
        assert made.contents.threads == threads
        for count in (0, 1, 3, 100):
            ran, lock = [0] * count, threading.Lock()

            def task(_: Any, i: int, ran: list[int] = ran, lock: threading.Lock = lock) -> None:
                with lock:
                    ran[i] += 1

            made.contents.run(made.contents.pool, count, c.Task(task), None)
            assert ran == [1] * count


@pytest.mark.parametrize("team", TEAMS)
def test_several_callers_at_once(team: Any) -> None:
    """Callers in threads of their own get the bits of their own arrays."""
    random = np.random.default_rng(0)
    inputs = [random.standard_normal((3000, 64)).astype(np.float32) for _ in range(4)]
    outputs = [np.zeros((3000, 2), np.uint32) for _ in inputs]
    zero = np.zeros(1, np.float32)
    with pool(3, team) as made:

        def call(x: np.ndarray, bits: np.ndarray) -> None:
            for _ in range(20):
                check(load_library().bnn_pack(address(x), 3000, 64, 1, address(zero), 1, address(bits), made))

        callers = [threading.Thread(target=call, args=pair) for pair in zip(inputs, outputs, strict=True)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    for x, bits in zip(inputs, outputs, strict=True):
        np.testing.assert_array_equal(bits, pack_last(x >= 0))


def test_a_pool_without_threads_is_refused() -> None:
    with pytest.raises(RuntimeLibraryError, match="threads is 0, not positive"), pool(0, None):
        pass

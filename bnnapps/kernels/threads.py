"""The threads that the kernels run on: those of PyTorch."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

import torch

from bnnapps.kernels import structures as c
from bnnapps.kernels.library import check, load_library


def pool() -> Any:
    """A `bnn_pool` of `torch.get_num_threads()` threads; `None` for one."""
    threads = torch.get_num_threads()
    return None if threads == 1 else _pool(threads, os.getpid())


@functools.lru_cache(maxsize=8)
def _pool(threads: int, process: int) -> Any:
    # By process: the threads of a pool do not survive a fork.
    made = ctypes.POINTER(c.Pool)()
    check(load_library().bnn_pool_create(threads, _team(), ctypes.byref(made)))
    return made


def _team() -> int | None:
    """The OpenMP runtime that PyTorch runs on, whose threads spin for a while after each of its operators.

    Threads of our own would share the processor with them.
    """
    if not torch.backends.openmp.is_available():
        return None
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):
        return None

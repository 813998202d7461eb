"""The popcount bound of this machine, measured."""

from __future__ import annotations

import ctypes

from bnnapps.kernels.library import RuntimeLibraryError, check, load_library

ROUNDS = 20


def popcount_bound(rounds: int = ROUNDS) -> float | None:
    """How many multiply-adds of codes per second one thread can do: the best of several rounds of a millisecond.

    `None` where there are no kernels, or where their instruction set has no such bound.
    """
    try:
        library = load_library()
        found = ctypes.c_double()
        best = 0.0
        for _ in range(rounds):
            check(library.bnn_bound(ctypes.byref(found)))
            best = max(best, found.value)
    except RuntimeLibraryError:
        return None
    return best

"""Integer thresholds for whatever a network computes between the sums of a layer and the next bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bnnapps.errors import ExportError
from bnnapps.export.fpga.layers import Codes, Integers

Floats = npt.NDArray[np.float32]


def reachable(terms: int, most: int, step: int) -> Integers:
    """All sums of `terms` products whose absolute values are at most `most`, in steps of `step`."""
    return np.arange(-terms * most, terms * most + 1, step, dtype=np.int64)


def merge(
    layer: str,
    weight: Codes,
    sums: Integers,
    high: Callable[[Floats], npt.NDArray[np.bool_]],
    may_fall: bool = True,
) -> tuple[Codes, Integers]:
    """The weight and the thresholds with which z >= threshold is the bit that the network computes.

    Every sum that can be reached is tried in every channel. A channel whose bit falls as its sum grows has its weights
    turned over: z <= t is -z >= -t.

    Args:
        layer: its name, for errors.
        weight: (outputs, ...).
        sums: all that can be reached, rising.
        high: of sums (S, outputs), whether the bit is high.
        may_fall: false where a pool lies between, which would take the largest of the wrong sign.

    Raises:
        ExportError: a bit that changes more than once, or falls where it may not.

    """
    outputs = len(weight)
    bits = high(np.repeat(sums[:, None], outputs, axis=1).astype(np.float32))
    changes = np.diff(bits.astype(np.int8), axis=0)
    rises, falls = (changes > 0).sum(axis=0), (changes < 0).sum(axis=0)
    wild = np.flatnonzero(rises + falls > 1)
    if len(wild):
        raise ExportError(
            f"layer '{layer}': the bit of channel {wild[0]} changes {rises[wild[0]] + falls[wild[0]]} times as its sum "
            "grows, so it is no threshold: use an activation that rises, such as Hardtanh, in front of the sign"
        )
    turned = falls == 1
    if not may_fall and turned.any():
        raise ExportError(
            f"layer '{layer}': channel {int(np.flatnonzero(turned)[0])} has a BatchNorm of negative weight behind the "
            "pool: put BatchNorm and activation in front of the pool"
        )
    first = np.where(bits.any(axis=0), bits.argmax(axis=0), len(sums))
    last = len(sums) - 1 - bits[::-1].argmax(axis=0)
    never = int(sums[-1]) + 1
    rising = np.where(first < len(sums), sums[np.minimum(first, len(sums) - 1)], never)
    threshold = np.where(turned, -sums[last], rising)
    signs = np.where(turned, -1, 1).reshape(-1, *[1] * (weight.ndim - 1))
    return (weight * signs).astype(np.int8), threshold.astype(np.int64)


def ranks(values: Floats) -> Integers:
    """Each value's place among the distinct values, all together: comparing places is comparing values.

    Args:
        values: (classes, sums).

    """
    _, found = np.unique(values, return_inverse=True)
    return found.reshape(values.shape).astype(np.int64)

"""Random choices that are the same on every platform, in every process and in every version of Python.

Only `random.Random.random` and seeding by a string (SHA-512 of it) are used: the two whose sequences Python promises to
keep. `choice`, `shuffle` and `sample` carry no such promise.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of choices that depends on its key alone."""

    def __init__(self, *key: object) -> None:
        self._random = random.Random("/".join(str(part) for part in key)).random

    def below(self, count: int) -> int:
        """A whole number from 0 to `count - 1`."""
        return int(self._random() * count)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def other(self, items: Sequence[T], than: T) -> T:
        """One of the items that differs from `than`; there must be one."""
        return self.pick([item for item in items if item != than])

    def maybe(self, items: Sequence[T], probability: float) -> T | None:
        """One of the items with the given probability, else None."""
        return self.pick(items) if self.chance(probability) else None

    def shuffle(self, items: list[T]) -> None:
        """Put the items into a random order (Fisher and Yates)."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]

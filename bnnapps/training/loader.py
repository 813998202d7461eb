"""A data loader whose order depends on (seed, epoch) alone, and that can go on in the middle of an epoch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from bnnapps.errors import BnnappsError

_LAST_LINE = re.compile(r"bnnapps\.errors\.\w+: (.+)")


class EpochBatches(Sampler[list[int]]):
    """Batches of indices, shuffled by (seed, epoch), from any batch of the epoch on.

    Without `lengths`, n batches in a row are one batch of n times the size: as many processes, each with its share, see
    together what one process sees with the larger batch.

    Args:
        size: number of examples.
        batch_size: examples a batch; the last batch may be smaller.
        seed: of the order.
        lengths: one for each example; batches then hold examples of similar length (less padding).
        shuffle: false keeps the order of the data.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, lengths: Sequence[int] | None = None, shuffle: bool = True
    ) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.lengths, self.shuffle = lengths, shuffle
        self.epoch = 0
        self.start = 0
        self.rank, self.world = 0, 1

    def batches(self) -> list[list[int]]:
        """All batches of the epoch."""
        order = list(range(self.size))
        if not self.shuffle:
            return self._cut(order)
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        order = torch.randperm(self.size, generator=generator).tolist()
        if self.lengths is not None:
            # Sorted within blocks of the shuffled order, so that batches differ from epoch to epoch.
            lengths, block = self.lengths, self.batch_size * 32
            order = [
                i for at in range(0, self.size, block) for i in sorted(order[at : at + block], key=lambda j: lengths[j])
            ]
            batches = self._cut(order)
            return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return self._cut(order)

    def _cut(self, order: list[int]) -> list[list[int]]:
        return [order[i : i + self.batch_size] for i in range(0, self.size, self.batch_size)]

    def share(self) -> list[list[int]]:
        """This process's batches: each takes every `world`-th, and all take as many (the first ones come again)."""
        batches = self.batches()
        batches += batches[: len(self) * self.world - len(batches)]
        return batches[self.rank :: self.world]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.share()[self.start :])

    def __len__(self) -> int:
        return -(-self.size // (self.batch_size * self.world))


class EpochLoader(DataLoader[Any]):
    """A loader over `EpochBatches` that draws from no global random state.

    Its state is the epoch and the number of batches that were handed out, in the form that Lightning saves and
    restores; `len` is always that of a whole epoch. `workers`: processes that make the batches.
    """

    def __init__(
        self,
        examples: Sequence[Any],
        collate: Callable[[list[Any]], Any],
        batch_size: int,
        seed: int,
        lengths: Sequence[int] | None = None,
        shuffle: bool = True,
        workers: int = 0,
    ) -> None:
        self.batches = EpochBatches(len(examples), batch_size, seed, lengths, shuffle)
        self.handed_out = 0
        generator = torch.Generator().manual_seed(seed)
        super().__init__(
            examples,  # type: ignore[arg-type]
            batch_sampler=self.batches,
            collate_fn=collate,
            generator=generator,
            num_workers=workers,
        )

    def set_epoch(self, epoch: int) -> None:
        """Start the given epoch from its first batch."""
        self.batches.epoch, self.batches.start, self.handed_out = epoch, 0, 0

    def shard(self, rank: int, world: int) -> None:
        """Hand out only the share of one of several processes."""
        self.batches.rank, self.batches.world = rank, world

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.handed_out = self.batches.start
        try:
            for batch in super().__iter__():
                self.handed_out += 1
                yield batch
        except (BnnappsError, RuntimeError) as problem:
            error = _error_of_worker(problem)
            if error is None:
                raise
            raise error from None

    def state_dict(self) -> dict[str, int]:
        """Where the loader stands."""
        return {"epoch": self.batches.epoch, "handed_out": self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where the saved loader stood."""
        self.set_epoch(int(state["epoch"]))
        self.batches.start = self.handed_out = int(state["handed_out"])


def _error_of_worker(problem: Exception) -> BnnappsError | None:
    """One of our errors as it was raised in another process, where torch gives it back with the traceback as its text.

    `None` for any other error. An error that torch cannot make again is a RuntimeError there.
    """
    lines = str(problem).splitlines()
    found = _LAST_LINE.fullmatch(lines[-1]) if len(lines) > 1 else None
    if found is None:
        return None
    return (type(problem) if isinstance(problem, BnnappsError) else BnnappsError)(found[1])

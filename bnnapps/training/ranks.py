"""Runs of several processes (DDP): Lightning starts them with the same command; the first one alone writes."""

from __future__ import annotations

import torch.distributed
from pytorch_lightning.utilities import rank_zero_only


def is_first() -> bool:
    """Whether this is the process that writes; true where there is only one."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def wait_for_all() -> None:
    """Go on when every process of the run has come this far."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()

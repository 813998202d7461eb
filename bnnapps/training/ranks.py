"""Runs of several processes (DDP): Lightning starts them with the same command; the first one alone writes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.output import OutputScale


def is_first() -> bool:
    """Whether this is the process that writes; true where there is only one."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def wait_for_all() -> None:
    """Go on when every process of the run has come this far."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def calibrate_together(model: nn.Module) -> list[Any]:
    """Let learned scales that start from the first batch start from the batches of all processes.

    Each process sees another batch, and DDP averages gradients, not parameters: starts of their own would never meet
    again. The mean over processes of equal batches is what one process would take from the whole.

    Returns the handles of the hooks; remove them after the first batch.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return []
    found: list[Any] = [_Agreement(m) for m in model.modules() if isinstance(m, OutputScale) and m.needs_data]
    scales = [m for m in model.modules() if isinstance(m, ActivationBinarizer) and m.spec.scale == "elastic"]
    return found + [m.register_forward_pre_hook(_calibrate) for m in scales]


class _Agreement:
    """While it stands, an output scale starts from the mean over all processes."""

    def __init__(self, scale: OutputScale) -> None:
        self._scale = scale
        scale.__dict__["agree"] = _mean_over_all

    def remove(self) -> None:
        """Each process for itself again."""
        self._scale.__dict__["agree"] = None


def _mean_over_all(value: Tensor) -> None:
    torch.distributed.all_reduce(value)
    value.div_(torch.distributed.get_world_size())


@torch.no_grad()
def _calibrate(binarizer: ActivationBinarizer, args: tuple[Any, ...]) -> None:
    if binarizer.training and not bool(binarizer.calibrated):
        binarizer.calibrate(binarizer._shifted(args[0]))
        _mean_over_all(binarizer.alpha.data)

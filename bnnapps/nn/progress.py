"""The one hook through which everything that moves during training is driven."""

from __future__ import annotations

from torch import nn


class Scheduled:
    """A module whose behaviour depends on how much of the training is done."""

    def set_progress(self, fraction: float) -> None:
        """Called before each optimizer step with the fraction done, 0 at the first step, 1 after the last.

        What changes must live in buffers, so that a checkpoint holds it.
        """
        raise NotImplementedError


def set_progress(model: nn.Module, fraction: float) -> None:
    """Tell every scheduled part of the model which fraction of the training is done.

    Raises:
        ValueError: `fraction` is not between 0 and 1.

    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"progress is {fraction}: it must lie between 0 and 1")
    for module in model.modules():
        if isinstance(module, Scheduled):
            module.set_progress(fraction)

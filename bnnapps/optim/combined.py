"""Several optimizers that look like one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


class CombinedOptimizer(torch.optim.Optimizer):
    """Steps several optimizers, each over its own parameters, as one `torch.optim.Optimizer`.

    `param_groups` are those of all of them in a row, the very same dicts, so that schedules, gradient clipping,
    gradient scalers and checkpoints work as with a single optimizer; `state` is shared by all.

    Args:
        optimizers: one or more, over disjoint parameters. Their state must still be empty.

    Raises:
        ValueError: two of them have a parameter in common, or there are none.

    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([group for o in self.optimizers for group in o.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let every optimizer work on its part of `param_groups`, and on the one state."""
        at = 0
        for optimizer in self.optimizers:
            end = at + len(optimizer.param_groups)
            optimizer.__setstate__({"state": self.state, "param_groups": self.param_groups[at:end]})
            at = end

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate the closure once, if there is one, then step every optimizer."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take a further group; the last optimizer steps it."""
        super().add_param_group(param_group)
        if not any(group is param_group for o in self.optimizers for group in o.param_groups):
            self.optimizers[-1].add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        """The optimizers go with a copy; their groups and state stay shared in it."""
        return super().__getstate__() | {"optimizers": self.optimizers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take on groups and state, also those of `load_state_dict`."""
        super().__setstate__(state)
        self._share()

"""What an exported file needs from a task: inputs like those of its training, and its score on the dev set."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import nn

from bnnapps.losses import LossHub, LossTerm
from bnnapps.training.module import BinaryModule, joined
from bnnapps.training.task import Task


@torch.no_grad()
def training_inputs(task: Task, model: nn.Module, batches: int) -> list[Any]:
    """What the model is called with for the first batches of the training set: positional or keyword arguments.

    Args:
        task: with its data read.
        model: a model of the task, in eval mode.
        batches: how many.

    """
    seen: list[Any] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(kwargs if kwargs else args)

    module = _module(task, model)
    handle = model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        for batch in islice(iter(task.train_loader()), batches):
            module.predict(batch)
    finally:
        handle.remove()
    return seen


@torch.no_grad()
def dev_metrics(task: Task, model: nn.Module, instead: nn.Module | None = None) -> dict[str, float]:
    """The task's metrics over its first dev set: of a model, or of what is called in its place."""
    module = _module(task, model)
    if instead is not None:
        module.model = instead
    parts = [module.predict(batch) for batch in task.dev_loaders()[0]]
    outputs, labels = (joined(column) for column in zip(*parts, strict=True))
    return dict(module.metrics(outputs, labels, 0))


def _module(task: Task, model: nn.Module) -> BinaryModule:
    stage = task.recipe.train.resolved()[-1]
    return task.make_module(model.eval(), stage, LossHub([LossTerm("task")]), None).eval()

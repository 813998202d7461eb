"""The optimizer of a recipe, and its rates during the training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import nn

from bnnapps.optim.bop import Bop
from bnnapps.optim.combined import CombinedOptimizer
from bnnapps.optim.groups import ParameterGroup, parameter_groups
from bnnapps.optim.schedule import lr_factor
from bnnapps.recipe.schema import OptimizerConfig, ScheduleConfig


def make_optimizer(model: nn.Module, config: OptimizerConfig, lr: float, fused: bool = False) -> torch.optim.Optimizer:
    """The optimizer of the recipe over the model's groups; `fused`: one kernel a step, where PyTorch has it.

    Raises:
        RecipeError: see `parameter_groups`.

    """
    return optimizer_of(parameter_groups(model, config, lr), config, fused)


def optimizer_of(
    groups: Sequence[ParameterGroup], config: OptimizerConfig, fused: bool = False
) -> torch.optim.Optimizer:
    """One optimizer over the groups, in their order; a combined one where they name several."""
    rows = [(name, list(row)) for name, row in itertools.groupby(groups, key=lambda g: g.optimizer)]
    made = [_one(name, row, config, fused) for name, row in rows]
    return made[0] if len(made) == 1 else CombinedOptimizer(made)


def _one(name: str, groups: Sequence[ParameterGroup], config: OptimizerConfig, fused: bool) -> torch.optim.Optimizer:
    settings = [g.settings() for g in groups]
    if name == "bop":
        return Bop(settings)
    if name == "rmsprop":
        return torch.optim.RMSprop(settings, eps=config.eps, momentum=config.momentum)
    if name == "sgd":
        return torch.optim.SGD(settings, momentum=config.momentum)
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
        "radam": torch.optim.RAdam,
        "nadam": torch.optim.NAdam,
    }
    more = {"fused": True} if fused and name in ("adamw", "adam") else {}
    return kinds[name](settings, betas=config.betas, eps=config.eps, **more)


def set_rates(
    optimizer: torch.optim.Optimizer, groups: Sequence[ParameterGroup], fraction: float, schedule: ScheduleConfig
) -> None:
    """Set the learning rate (for Bop gamma) of each of the optimizer's groups at a fraction of the training.

    A group follows its own schedule, else the given one.
    """
    for settings, group in zip(optimizer.param_groups, groups, strict=True):
        own = schedule if group.schedule is None else group.schedule
        settings[group.moves] = group.rate * lr_factor(fraction, own)

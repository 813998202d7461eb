"""Which parameters train how."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from bnnapps.errors import RecipeError
from bnnapps.nn.layers.base import PARTS, BinaryLayer
from bnnapps.recipe.schema import GroupConfig, OptimizerConfig


def parameter_kinds(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, str]]:
    """Each trainable parameter once, with its name and kind.

    Kinds: `latent` (the weight of a binary layer), `parts` (what its binarizers learn; the two weights of a split
    layer are latent), `no_decay` (biases and norms: one dimension), `rest`.
    """
    latent = set()
    for module in model.modules():
        if isinstance(module, BinaryLayer):
            latent |= {id(p) for p in module.parameters(recurse=False) if p.dim() > 1}
    seen: set[int] = set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or id(parameter) in seen:
            continue
        seen.add(id(parameter))
        if f".{PARTS}." in f".{name}":
            kind = "latent" if parameter.dim() > 1 else "parts"
        elif id(parameter) in latent:
            kind = "latent"
        else:
            kind = "no_decay" if parameter.dim() <= 1 else "rest"
        yield name, parameter, kind


def parameter_groups(model: nn.Module, config: OptimizerConfig, lr: float) -> list[dict[str, Any]]:
    """Optimizer groups: the first configured group that fits takes a parameter.

    Parameters that none takes train with `lr` and the configured decay; biases, norms and learned scales without decay.

    Raises:
        RecipeError: a configured group takes no parameter.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    used = [False] * len(config.groups)
    for name, parameter, kind in parameter_kinds(model):
        scale, decay = 1.0, 0.0 if kind in ("parts", "no_decay") else config.weight_decay
        for i, group in enumerate(config.groups):
            if _takes(group, name, kind):
                used[i] = True
                scale = group.lr_scale
                decay = decay if group.weight_decay is None else group.weight_decay
                break
        groups.setdefault((scale, decay), []).append(parameter)
    for group, taken in zip(config.groups, used, strict=True):
        if not taken:
            label = f"of: {group.of}" + (f", match: {group.match}" if group.match else "")
            raise RecipeError(f"train.optimizer.groups: the group {{{label}}} takes no parameter of this model")
    return [
        {"params": params, "lr": lr * scale, "weight_decay": decay, "lr_scale": scale}
        for (scale, decay), params in groups.items()
    ]


def _takes(group: GroupConfig, name: str, kind: str) -> bool:
    return group.of in ("all", kind) and (group.match is None or fnmatch.fnmatchcase(name, group.match))


def make_optimizer(model: nn.Module, config: OptimizerConfig, lr: float, fused: bool = False) -> torch.optim.Optimizer:
    """The optimizer of the recipe over the model's groups; `fused`: one kernel a step, where PyTorch has it."""
    groups = parameter_groups(model, config, lr)
    if config.name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=lr, eps=config.eps, momentum=config.momentum)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum)
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
        "radam": torch.optim.RAdam,
        "nadam": torch.optim.NAdam,
    }
    more = {"fused": True} if fused and config.name in ("adamw", "adam") else {}
    return kinds[config.name](groups, lr=lr, betas=config.betas, eps=config.eps, **more)

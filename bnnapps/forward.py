"""Running a model on example inputs without changing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def call_model(model: nn.Module, example_inputs: Any) -> Any:
    """model(x) for a tensor, model(*args) for a tuple or list, model(**kwargs) for a mapping."""
    if isinstance(example_inputs, Tensor):
        return model(example_inputs)
    if isinstance(example_inputs, Mapping):
        return model(**example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return model(*example_inputs)
    raise TypeError(
        f"example_inputs is a {type(example_inputs).__name__}; expected a tensor, a tuple of positional arguments, "
        "or a dict of keyword arguments"
    )


def run_model(model: nn.Module, example_inputs: Any) -> Any:
    """`call_model` in eval mode; every module's training flag and the random generators are put back afterwards."""
    flags = [(m, m.training) for m in model.modules()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    model.eval()
    try:
        with torch.random.fork_rng(devices):
            return call_model(model, example_inputs)
    finally:
        for module, flag in flags:
            module.training = flag

"""Binarize any PyTorch model by rules, train it on its own task, deploy it as true bits.

Example:
    >>> import torch, bnnapps
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 16), torch.nn.Linear(16, 2))
    >>> model = bnnapps.binarize(model, "bnn")
    >>> [entry.name for entry in bnnapps.plan_of(model).binarized]
    ['1']

"""

from __future__ import annotations

import importlib
from typing import Any

from bnnapps import methods as methods
from bnnapps.binarize import (
    Plan,
    Rule,
    apply_constraints,
    apply_plan,
    assert_ran,
    binarize,
    binary_state_dict,
    is_binarized,
    plan,
    plan_of,
    restore,
)
from bnnapps.errors import BinarizeError, BnnappsError
from bnnapps.nn.progress import set_progress
from bnnapps.profile import LayerRow, Summary, summarize

__version__ = "0.1.0"

__all__ = [
    "BinarizeError",
    "BnnappsError",
    "LayerRow",
    "Plan",
    "Rule",
    "Summary",
    "apply_constraints",
    "apply_plan",
    "assert_ran",
    "binarize",
    "binary_state_dict",
    "is_binarized",
    "methods",
    "plan",
    "plan_of",
    "restore",
    "set_progress",
    "summarize",
]


def __getattr__(name: str) -> Any:
    # `bnnapps.export` and `bnnapps.plugins` are packages of their own, loaded when they are asked for.
    if name in ("export", "plugins", "training", "recipe", "report"):
        return importlib.import_module(f"bnnapps.{name}")
    raise AttributeError(f"module 'bnnapps' has no attribute '{name}'")

"""Calling custom autograd functions with types."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def call(function: Any, *args: Any) -> Tensor:
    """`function.apply(*args)` of a `torch.autograd.Function` that returns one tensor."""
    result: Tensor = function.apply(*args)
    return result

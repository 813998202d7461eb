"""Calling custom autograd functions with types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def call(function: Any, *args: Any) -> Tensor:
    """`function.apply(*args)` of a `torch.autograd.Function` that returns one tensor."""
    result: Tensor = function.apply(*args)
    return result


def disable_compiler(function: Function) -> Function:
    """`torch.compiler.disable(function)` with types: `torch.compile` leaves the function as it is."""
    result: Function = torch.compiler.disable(function)
    return result

"""Small random models of many architectures, each as its library makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A model and inputs for it.

    Attributes:
        build: makes the float model, from its library's own class or function, without pretrained weights.
        inputs: for a forward pass in eval mode: a tensor, a tuple of arguments, or a dict of keyword arguments.
        training: inputs for a forward pass in training, where they are others.
        keep: layers that cannot be binary as they come, as a pattern of a rule, each with the reason.

    """

    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    training: Callable[[], Any] | None = None
    keep: Mapping[str, str] = field(default_factory=dict)

"""Members of blocks that keep less for the backward pass, and compute the same."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from bnnapps.nn.functional import keep_integers, keep_shape


class AvgPool2d(nn.AvgPool2d):
    """`nn.AvgPool2d` whose backward pass has the shape of its input, and not its values."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.AvgPool2d
        """The pooled map."""
        if not _keeps(input):
            return super().forward(input)
        with keep_shape(input):
            return super().forward(input)


def normalized(norm: Any, conv: Any, y: Tensor) -> Tensor:
    """norm(y) for the result y of `conv`; where the convolution is binary, norm keeps y as integers of two bytes."""
    gives_integers = getattr(conv, "gives_integers", None)
    if gives_integers is None or not _keeps(y) or y.dtype != torch.float32 or not gives_integers():
        return cast(Tensor, norm(y))
    with keep_integers(y, conv.scale()):
        return cast(Tensor, norm(y))


def _keeps(x: Tensor) -> bool:
    """Whether an operator on x keeps anything: with gradients, outside a traced graph."""
    return torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling()

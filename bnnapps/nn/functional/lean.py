"""Less for autograd to keep, with the same gradients: shapes instead of values, integers instead of floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Instead(torch.autograd.graph.saved_tensors_hooks):
    """Inside, whatever an operator saves of one tensor is kept in another form."""

    def __init__(self, of: Tensor, pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> None:
        self._of: Tensor | None = of
        super().__init__(
            lambda saved: (pack(saved),) if self._is_it(saved) else saved,
            lambda kept: unpack(kept[0]) if isinstance(kept, tuple) else kept,
        )

    def _is_it(self, saved: Tensor) -> bool:
        of = self._of
        return (
            of is not None
            and saved.data_ptr() == of.data_ptr()
            and saved.shape == of.shape
            and saved.stride() == of.stride()
            and saved.dtype == of.dtype
        )

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)
        self._of = None  # the values must not outlive the forward pass


def keep_shape(x: Tensor) -> _Instead:
    """A context in which operators keep the shape of x and not its values, which come back as anything.

    For operators whose gradient asks for the size of their input alone, such as average pooling.
    """
    return _Instead(
        x,
        lambda t: (t.shape, t.stride(), t.dtype, t.device),
        lambda kept: torch.empty_strided(kept[0], kept[1], dtype=kept[2], device=kept[3]),
    )


def keep_integers(y: Tensor, scale: Tensor | None) -> _Instead:
    """A context in which operators keep y = n * scale as the integers n, in two bytes each.

    n comes back exactly, and n * scale with it, bit for bit, if y was computed as that product: y * (1 / scale) is
    within 1/4 of n for |n| < 2^15.

    Args:
        y: the product, float32.
        scale: what broadcasts to y; `None` is 1.
    """
    dtype = y.dtype
    inverse = None if scale is None else scale.reciprocal()

    def integers(saved: Tensor) -> Tensor:
        real = saved.detach().clone() if inverse is None else saved.detach() * inverse
        return real.round_().to(torch.int16)

    def floats(kept: Tensor) -> Tensor:
        return kept.to(dtype) if scale is None else kept.to(dtype).mul_(scale)

    return _Instead(y, integers, floats)

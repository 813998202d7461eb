"""Cutting a map into windows and putting it together again, in any number of dimensions (Swin, Liu et al., 2021)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """How a map of the given extent is cut.

    Attributes:
        extent: positions of the map along each dimension.
        size: of a window.
        shift: by how much the map is rolled before it is cut, along each dimension; 0 is not at all.

    """

    extent: tuple[int, ...]
    size: tuple[int, ...]
    shift: tuple[int, ...]

    @property
    def padded(self) -> tuple[int, ...]:
        """The extent, filled up to whole windows."""
        return tuple(-(-e // s) * s for e, s in zip(self.extent, self.size, strict=True))

    @property
    def counts(self) -> tuple[int, ...]:
        """Windows along each dimension."""
        return tuple(p // s for p, s in zip(self.padded, self.size, strict=True))

    @property
    def _dims(self) -> tuple[int, ...]:
        return tuple(range(1, 1 + len(self.extent)))

    def split(self, x: Tensor) -> Tensor:
        """(B, *extent, C) -> (B, windows, positions of a window, C); what is filled up holds zeros."""
        missing = [p - e for p, e in zip(self.padded, self.extent, strict=True)]
        x = F.pad(x, [0, 0, *itertools.chain.from_iterable((0, m) for m in reversed(missing))])
        if any(self.shift):
            x = torch.roll(x, [-s for s in self.shift], self._dims)
        return _cut(x, self.counts, self.size)

    def join(self, windows: Tensor) -> Tensor:
        """The inverse of `split`: (B, windows, positions, C) -> (B, *extent, C)."""
        n = len(self.extent)
        x = windows.reshape(windows.shape[0], *self.counts, *self.size, windows.shape[-1])
        order = [0, *itertools.chain.from_iterable((1 + i, 1 + n + i) for i in range(n)), 1 + 2 * n]
        x = x.permute(order).reshape(windows.shape[0], *self.padded, windows.shape[-1])
        if any(self.shift):
            x = torch.roll(x, list(self.shift), self._dims)
        for dim, extent in zip(self._dims, self.extent, strict=True):
            x = x.narrow(dim, 0, extent)
        return x.contiguous()

    def hidden(self, device: torch.device) -> Tensor | None:
        """Which pairs of positions lie in one window only because of the roll: boolean, (windows, S, S), or `None`.

        Along each dimension the rolled map has three parts: all but the last window, the last window up to where the
        roll came round, and what came round. Positions see each other within one part only.
        """
        if not any(self.shift):
            return None
        part = torch.zeros(self.padded, dtype=torch.long, device=device)
        for dim, (length, size, shift) in enumerate(zip(self.padded, self.size, self.shift, strict=True)):
            positions = torch.arange(length, device=device)
            # Without a shift the slices of the float class still set the last window apart, which is a window anyway.
            along = (positions >= length - size).long() + (positions >= length - shift).long() * (shift > 0)
            shape = [1] * len(self.padded)
            shape[dim] = -1
            part = part * 3 + along.view(shape)
        cut = _cut(part[None, ..., None], self.counts, self.size)[0, :, :, 0]
        return cut.unsqueeze(1) != cut.unsqueeze(2)


def _cut(x: Tensor, counts: Sequence[int], size: Sequence[int]) -> Tensor:
    n = len(size)
    x = x.reshape(x.shape[0], *itertools.chain.from_iterable(zip(counts, size, strict=True)), x.shape[-1])
    x = x.permute(0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2), 2 * n + 1)
    count, positions = 1, 1
    for c, s in zip(counts, size, strict=True):
        count, positions = count * c, positions * s
    return x.reshape(x.shape[0], count, positions, x.shape[-1])


def windows_of(extent: Sequence[int], window: Sequence[int], shift: Sequence[int], shrink: bool) -> Windows:
    """The windows for a map of that extent.

    A dimension that one window covers is not shifted; with `shrink` the window is no larger than the map there.
    """
    size = tuple(min(e, w) if shrink else w for e, w in zip(extent, window, strict=True))
    plain = Windows(tuple(extent), size, tuple(0 for _ in shift))
    moved = tuple(0 if count == 1 else s for count, s in zip(plain.counts, shift, strict=True))
    return Windows(tuple(extent), size, moved)

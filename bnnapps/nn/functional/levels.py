"""A gradient's multiplier kept in a few bits an element, where exactness would keep a float.

The multiplier m of a sign estimator (`bnnapps.nn.functional.sign`) lies between a small negative number or 0 and its
largest value. In k bits it becomes one of 2^k levels, step * (i - zero) for i = 0 .. 2^k - 1; 0 and the largest value
are levels, so a saturated element gets no gradient at all. Which of the two levels beside m is taken is drawn with the
chances that make m the mean, so the gradient keeps its mean and gains noise. The draws come from PyTorch's global
generator of the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bnnapps.nn.functional.bits import byte_table, eight_to_a_byte, in_memory_order, is_dense

MOST_BITS = 4
_BLOCK = 1 << 17
_SPARE = 1 << 12
_FINE_BITS = 7  # what an int8 that is never negative holds: the level, and the chance of the next one


class Grid(NamedTuple):
    """The levels step * (i - zero), i = 0 .. 2^bits - 1."""

    bits: int
    zero: int
    step: Tensor | float


def grid(bits: int, largest: Tensor | float, negative: float = 0.0) -> Grid:
    """The finest grid that holds 0 and reaches from -negative * largest to largest.

    Args:
        bits: 1 to 4; at least 2 where `negative` is more than 0.
        largest: the largest multiplier; a tensor of one element, or a number.
        negative: how far below 0 the multiplier goes, as a fraction of `largest`, 0 to 1.

    Raises:
        ValueError: `bits` out of range.

    """
    fewest = 1 if negative == 0 else 2
    if not fewest <= bits <= MOST_BITS:
        raise ValueError(f"this gradient can be kept in {fewest} to {MOST_BITS} bits, not in {bits}")
    if negative == 0:
        return Grid(bits, 0, largest / (2**bits - 1))
    steps = {zero: max(1 / (2**bits - 1 - zero), negative / zero) for zero in range(1, 2**bits - 1)}
    zero = min(steps, key=lambda z: steps[z])
    return Grid(bits, zero, largest * steps[zero])


@dataclass(frozen=True)
class PackedLevels:
    """A tensor of levels, k bits an element.

    Attributes:
        data: uint8 (k, ceil(numel / 8)); plane j holds bit j of every element, packed as `PackedBits` are.
        shape, stride: of the tensor; the stride of a tensor with gaps is a contiguous one.
        grid: what the levels stand for.

    """

    data: Tensor
    shape: torch.Size
    stride: tuple[int, ...]
    grid: Grid


def pack_levels(x: Tensor, multiplier: Callable[[Tensor], Tensor], levels: Grid) -> PackedLevels:
    """multiplier(x), rounded to the levels at random so that its mean stays. No gradient.

    The mean of what is kept is within step / 2^(8 - bits) of the multiplier: seven bits hold a level and the chance of
    the next. Beyond the grid the outermost level is taken; NaN becomes the lowest one.

    Args:
        x: any shape.
        multiplier: works element by element.
        levels: the grid.

    """
    x = x.detach()
    if not is_dense(x):
        x = x.contiguous()
    values = in_memory_order(x)
    data = torch.empty(levels.bits, math.ceil(values.numel() / 8), dtype=torch.uint8, device=x.device)
    noise = _Noise(levels, values)
    for start, part in _blocks(values):
        numbers = _in_fine_steps(multiplier(part), levels)
        drawn = numbers.add_(noise.next(numbers.numel())).bitwise_right_shift_(_FINE_BITS - levels.bits)
        for plane in range(levels.bits):
            packed = eight_to_a_byte(drawn if plane == levels.bits - 1 else drawn.clone(), plane)
            data[plane, start // 8 : start // 8 + packed.numel()] = packed
    return PackedLevels(data, x.shape, x.stride(), levels)


def _blocks(values: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Parts that fit a processor's cache, with where they start; the whole, on other devices."""
    size = _BLOCK if values.device.type == "cpu" else max(1, values.numel())
    for start in range(0, values.numel(), size):
        yield start, values[start : start + size]


def _in_fine_steps(multiplier: Tensor, levels: Grid) -> Tensor:
    """The multiplier in the fine steps that make up a level, as int8; zeros follow until their count divides by 8."""
    fine = 2 ** (_FINE_BITS - levels.bits)
    if multiplier.dtype in (torch.float16, torch.bfloat16):
        multiplier = multiplier.float()
    gain, offset = fine / levels.step, levels.zero * fine + 0.5
    if isinstance(gain, Tensor):
        steps = (multiplier * gain).add_(offset)
    else:
        steps = torch.add(multiplier.new_full((), offset), multiplier, alpha=gain)
    # What NaN becomes as int8 has its low bits clear, wherever PyTorch runs: the lowest level.
    numbers = steps.clamp_(0, (2**levels.bits - 1) * fine + 0.5).to(torch.int8)
    tail = -numbers.numel() % 8
    return torch.nn.functional.pad(numbers, (0, tail)) if tail else numbers


class _Noise:
    """Uniform fine steps below a level, for one block after the other.

    Draws are slow on a CPU, so bytes are drawn for little more than one block. Every block takes them from a random
    place on, combined by an exclusive or with one random word of its own: any two elements are independent.
    """

    def __init__(self, levels: Grid, values: Tensor) -> None:
        self._low_bits = int.from_bytes(8 * bytes([2 ** (_FINE_BITS - levels.bits) - 1]), "little")
        words = math.ceil(values.numel() / 8)
        blocks = values.device.type == "cpu" and values.numel() > _BLOCK
        self._spare = _SPARE if blocks else 0
        self._words = self._draw(_BLOCK // 8 + _SPARE if blocks else words, values.device)

    def _draw(self, words: int, device: torch.device) -> Tensor:
        drawn = torch.empty(words, dtype=torch.int64, device=device).random_(-(2**63), None)
        return drawn.bitwise_and_(self._low_bits)

    def next(self, count: int) -> Tensor:
        """`count` bytes, a multiple of 8."""
        if self._spare == 0:
            return self._words.view(torch.int8)
        start = int(torch.randint(self._spare + 1, (1,)))
        words = self._words[start : start + count // 8]
        return (words ^ self._draw(1, words.device)).view(torch.int8)


def unpack_levels(packed: PackedLevels, dtype: torch.dtype) -> Tensor:
    """The multiplier that was kept."""
    words: Tensor | None = None
    for plane in range(packed.grid.bits):
        table = byte_table(0, 1 << plane, packed.data)
        part = table.index_select(0, packed.data[plane].int())
        words = part if words is None else words.add_(part)  # bytes hold less than 16, so no sum carries
    assert words is not None
    numbers = words.view(torch.int8)[: packed.shape.numel()].to(dtype)
    if packed.grid.zero:
        numbers.sub_(packed.grid.zero)
    return numbers.mul_(packed.grid.step).as_strided(packed.shape, packed.stride)

"""One bit an element: packing, unpacking, and keeping bits instead of floats for the backward pass.

Bits are stored least significant first, eight to a byte, in the memory order of a tensor without gaps (else in the
order of its elements); the tail of the last byte is 0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Eight bytes that are 0 or 1, read as one little-endian 64-bit word, become one byte by this product: byte j of
# the word contributes its bit at position 56 + j, and the sums never carry.
_GATHER = 0x0102040810204080
_LOW_BITS = 0x0101010101010101


@dataclass(frozen=True)
class PackedBits:
    """A tensor of two values, one bit each.

    Attributes:
        data: uint8, ceil(numel / 8) bytes.
        shape, stride, dtype: the tensor's own; the stride of a tensor with gaps is a contiguous one.
        zero, one: the values that the bits 0 and 1 stand for.

    """

    data: Tensor
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    zero: float
    one: float


def pack_bits(flags: Tensor) -> PackedBits:
    """Pack a tensor whose elements are 0 or 1 (any dtype). No gradient."""
    return _pack(flags, 0, 0.0, 1.0)


def pack_signs(signs: Tensor) -> PackedBits:
    """Pack a tensor whose elements are +1 or -1. No gradient."""
    # In two's complement -1 has its second bit set and +1 has not.
    return _pack(signs, 1, 1.0, -1.0)


def _pack(values: Tensor, bit: int, zero: float, one: float) -> PackedBits:
    if not values.is_contiguous() and not is_dense(values):
        values = values.contiguous()
    # int8, not uint8 or bool: PyTorch converts floats to int8 several times faster on a CPU.
    numbers = in_memory_order(values).to(torch.int8, copy=True)
    tail = -numbers.numel() % 8
    if tail:
        numbers = torch.nn.functional.pad(numbers, (0, tail))
    return PackedBits(eight_to_a_byte(numbers, bit), values.shape, values.stride(), values.dtype, zero, one)


def eight_to_a_byte(numbers: Tensor, bit: int) -> Tensor:
    """Bit `bit` of each element of an int8 vector, whose length divides by 8, as uint8. Overwrites `numbers`."""
    words = numbers.view(torch.int64)
    if bit:
        words.bitwise_right_shift_(bit)
    return words.bitwise_and_(_LOW_BITS).mul_(_GATHER).bitwise_right_shift_(56).to(torch.uint8)


def in_memory_order(values: Tensor) -> Tensor:
    """The elements of a tensor without gaps (`is_dense`), as they lie in memory; detached."""
    values = values.detach()
    if values.is_contiguous():
        return values.view(-1)
    return values.as_strided((values.numel(),), (1,), values.storage_offset())


def is_dense(values: Tensor) -> bool:
    """Whether the tensor fills its memory without gaps, in any order of its dimensions."""
    return bool(torch.ops.aten.is_non_overlapping_and_dense(values))


def unpack(bits: PackedBits) -> Tensor:
    """The tensor that was packed."""
    words = byte_table(int(bits.zero), int(bits.one), bits.data)
    # Eight values at a time are looked up as one word of bytes; floats would be four times as many bytes to move.
    numbers = words.index_select(0, bits.data.int()).view(torch.int8)
    return numbers[: bits.shape.numel()].to(bits.dtype).as_strided(bits.shape, bits.stride)


def byte_table(zero: int, one: int, data: Tensor) -> Tensor:
    """256 words, for packed `data`: word b has, as int8, `zero` or `one` for each of the eight bits of byte b."""
    # A traced graph must own its constants: there the cache is passed by.
    table = _table if type(data) is Tensor else _table.__wrapped__
    return table(zero, one, data.device)


@functools.lru_cache(maxsize=64)
def _table(zero: int, one: int, device: torch.device) -> Tensor:
    """Word b holds the eight values of byte b, as int8. Shape (256,)."""
    with torch.inference_mode(False), torch.no_grad():
        byte = torch.arange(256, device=device).unsqueeze(1)
        bit = (byte >> torch.arange(8, device=device)) & 1
        return torch.where(bit == 1, one, zero).to(torch.int8).view(torch.int64).view(-1)


class save_codes(torch.autograd.graph.saved_tensors_hooks):  # noqa: N801 - used like a function
    """Inside this context autograd keeps the given code tensors as bits instead of floats.

    The operators inside stay PyTorch's own, and so do their gradients: a tensor that an operator saves for its
    backward pass is packed when it is a view of all of one of `signs` (elements +1 and -1) or `flags` (1 and 0), and
    unpacked when the backward pass asks for it. Anything else is kept as it is. A tensor whose memory has gaps is
    left alone.

    Example:
        >>> x = torch.ones(4, 16).requires_grad_()
        >>> w = -torch.ones(8, 16)
        >>> with save_codes(signs=(x, w)):
        ...     y = torch.nn.functional.linear(x, w)
        >>> torch.equal(torch.autograd.grad(y.sum(), x)[0], w.sum(0).expand(4, 16))
        True

    """

    def __init__(self, signs: tuple[Tensor, ...] = (), flags: tuple[Tensor, ...] = ()) -> None:
        known = [(t, False) for t in signs] + [(t, True) for t in flags]
        self._known = {_identity(t): (t, unsigned) for t, unsigned in known if is_dense(t)}
        self._kept: dict[_Identity, PackedBits] = {}
        super().__init__(self._pack, _unpack)

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)
        self._known.clear()  # the float values must not outlive the forward pass
        self._kept.clear()

    def _pack(self, tensor: Tensor) -> Any:
        key = _identity(tensor)
        if key not in self._known or _extent(tensor) > tensor.numel():
            return tensor
        if key not in self._kept:
            values, unsigned = self._known[key]
            self._kept[key] = pack_bits(values) if unsigned else pack_signs(values)
        return self._kept[key], tensor.shape, tensor.stride()


_Identity = tuple[int, int, int, torch.dtype]


def _identity(tensor: Tensor) -> _Identity:
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tensor.numel(), tensor.dtype


def _extent(tensor: Tensor) -> int:
    """How many elements of memory a view that is not empty reaches over."""
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _unpack(saved: Any) -> Tensor:
    if isinstance(saved, Tensor):
        return saved
    bits, shape, stride = saved
    return unpack(bits).as_strided(shape, stride)

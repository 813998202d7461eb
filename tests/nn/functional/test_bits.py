from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bnnapps.nn import functional as BF

shapes = st.lists(st.integers(0, 7), min_size=0, max_size=4).map(tuple)
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def random_signs(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


@given(shapes, st.integers(0, 2**31), st.sampled_from(FLOATS))
def test_signs_come_back(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> None:
    x = random_signs(shape, seed).to(dtype)
    bits = BF.pack_signs(x)
    assert bits.data.dtype == torch.uint8
    assert bits.data.numel() == -(-x.numel() // 8)
    back = BF.unpack(bits)
    assert back.dtype == dtype
    assert torch.equal(back, x)


@given(shapes, st.integers(0, 2**31), st.sampled_from([*FLOATS, torch.bool, torch.int8, torch.uint8, torch.int64]))
def test_flags_come_back(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> None:
    x = random_signs(shape, seed).clamp(min=0).to(dtype)
    back = BF.unpack(BF.pack_bits(x))
    assert back.dtype == dtype
    assert torch.equal(back, x)


@given(st.integers(0, 70), st.integers(0, 2**31))
def test_layout_is_least_significant_bit_first_with_a_zero_tail(count: int, seed: int) -> None:
    flags = random_signs((count,), seed).clamp(min=0)
    packed = BF.pack_bits(flags).data
    assert np.array_equal(packed.numpy(), np.packbits(flags.numpy().astype(np.uint8), bitorder="little"))


def test_a_bit_of_a_sign_says_which_of_its_two_values_it_is() -> None:
    bits = BF.pack_signs(torch.tensor([1.0, -1.0, -1.0]))
    values = [(int(bits.data[0]) >> i) & 1 for i in range(8)]
    meaning = {0: bits.zero, 1: bits.one}
    assert [meaning[v] for v in values[:3]] == [1.0, -1.0, -1.0]
    assert values[3:] == [0] * 5


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**31))
def test_views_of_every_kind_come_back(rows: int, columns: int, step: int, seed: int) -> None:
    base = random_signs((2, 3, rows, columns), seed)
    views = [
        base.transpose(1, 3),
        base[..., ::step],
        base[:, 1:],
        base[:, :1].expand(2, 4, rows, columns),
        base.to(memory_format=torch.channels_last),
        base.flatten()[1:],
    ]
    for view in views:
        assert torch.equal(BF.unpack(BF.pack_signs(view)), view)
        assert torch.equal(BF.unpack(BF.pack_bits(view.clamp(min=0))), view.clamp(min=0))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool])
@pytest.mark.parametrize("start", range(1, 9))
def test_bytes_that_start_anywhere_in_memory_can_be_packed(start: int, dtype: torch.dtype) -> None:
    flags = torch.randint(0, 2, (40,)).to(dtype)[start:]
    assert torch.equal(BF.unpack(BF.pack_bits(flags)), flags)


def test_packing_reads_only() -> None:
    signs, flags = random_signs((3, 5), 1), torch.ones(16, dtype=torch.int8)
    copies = signs.clone(), flags.clone()
    BF.pack_signs(signs)
    BF.pack_bits(flags)
    assert torch.equal(signs, copies[0])
    assert torch.equal(flags, copies[1])


def test_unpacked_tensors_are_independent_of_each_other() -> None:
    bits = BF.pack_signs(random_signs((16,), 2))
    BF.unpack(bits).zero_()
    assert torch.equal(BF.unpack(bits), random_signs((16,), 2))


def test_bits_packed_in_inference_mode_serve_training() -> None:
    x = random_signs((3, 11), 3)
    with torch.inference_mode():
        assert torch.equal(BF.unpack(BF.pack_signs(x)), x)
    weight = torch.ones(3, 11, requires_grad=True)
    (BF.unpack(BF.pack_signs(x)) * weight).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, x)

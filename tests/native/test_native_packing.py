"""Packing, unpacking and max-pooling on bits."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from kernel_calls import Backwards, address, pack_last, sizes, unpack_last, using, words

from bnnapps.export import runtime
from bnnapps.kernels import structures as c
from bnnapps.kernels.library import check, load_library

ISAS = runtime.available()
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45], np.float32)


@pytest.mark.parametrize("isa", ISAS)
@given(
    outer=st.integers(0, 5),
    channels=st.sampled_from((1, 8, 31, 32, 33, 64, 100)),
    inner=st.sampled_from((1, 2, 15, 16, 17, 50)),
    one=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_packing_and_back(isa: str, outer: int, channels: int, inner: int, one: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((outer, channels, inner)).astype(np.float32)
    x[random.random(x.shape) < 0.2] = random.choice(SPECIAL)
    threshold = np.where(random.random(1 if one else channels) < 0.3, 0, random.standard_normal(1 if one else channels))
    threshold = threshold.astype(np.float32)
    high = (x >= threshold[:, None]).swapaxes(1, 2)
    bits = np.full((outer, inner, words(channels)), 7, np.uint32)
    library, pool = load_library(), Backwards(threads=3).pointer() if seed % 2 else None
    with using(isa):
        check(
            library.bnn_pack(
                address(x), outer, channels, inner, address(threshold), threshold.size, address(bits), pool
            )
        )
    np.testing.assert_array_equal(unpack_last(bits, channels), high)
    for low in (-1.0, 0.0):
        back = np.full(x.shape, np.nan, np.float32)
        check(library.bnn_unpack(address(bits), outer, channels, inner, low, address(back), pool))
        np.testing.assert_array_equal(back, np.where(high, np.float32(1), np.float32(low)).swapaxes(1, 2))


def test_zero_is_high_and_nan_is_low() -> None:
    bits, threshold = np.zeros(1, np.uint32), np.zeros(1, np.float32)
    for isa in ISAS:
        with using(isa):
            check(load_library().bnn_pack(address(SPECIAL), 1, 7, 1, address(threshold), 1, address(bits), None))
        assert bits[0] == 0b0100111


@given(
    rank=st.integers(1, 3),
    channels=st.sampled_from((1, 32, 40, 100)),
    batch=st.integers(1, 3),
    data=st.data(),
    seed=st.integers(0, 2**31),
)
def test_maxpool_equals_torch(rank: int, channels: int, batch: int, data: st.DataObject, seed: int) -> None:
    def per_dimension(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(rank))

    kernel, stride, dilation = per_dimension(1, 3), per_dimension(1, 3), per_dimension(1, 2)
    begin, end, size = per_dimension(0, 2), per_dimension(0, 2), per_dimension(1, 8)
    dimensions = range(rank)
    assume(all(size[d] + begin[d] + end[d] > (kernel[d] - 1) * dilation[d] for d in dimensions))
    high = np.random.default_rng(seed).random((batch, channels, *size)) < 0.3
    padded = F.pad(torch.from_numpy(high).float(), [n for d in reversed(dimensions) for n in (begin[d], end[d])])
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    expected = np.moveaxis(function(padded, kernel, stride, 0, dilation).numpy(), 1, -1)

    shape = c.PoolShape(rank, channels, *map(sizes, (kernel, stride, dilation, begin, end)))
    given_size, output = np.array(size, np.int64), np.zeros(rank, np.int64)
    check(load_library().bnn_maxpool_output_size(ctypes.byref(shape), address(given_size), address(output)))
    assert tuple(output) == expected.shape[1:-1]
    bits = pack_last(np.moveaxis(high, 1, -1))
    y = np.full((batch, *output, words(channels)), 7, np.uint32)
    pool = Backwards().pointer() if seed % 2 else None
    check(load_library().bnn_maxpool(ctypes.byref(shape), address(bits), batch, address(given_size), address(y), pool))
    np.testing.assert_array_equal(unpack_last(y, channels), expected)

"""The golden model of the integer form against torch on plain codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnapps.errors import ExportError
from bnnapps.export.graph.bisect import first_high
from bnnapps.export.ir import bits as B
from bnnapps.export.ir.operators import compute
from bnnapps.export.ir.sums import Geometry, conv_sums, dense_sums, matmul_sums, pooled_bits, transposed_sums


def codes(shape: tuple[int, ...], low: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(shape, generator=generator) < 0.5, 1.0, low)


def packed(x: torch.Tensor, axis: int) -> B.Bits:
    return B.pack(x.numpy(), np.array([0.5], np.float32), axis)


@given(st.integers(1, 70), st.integers(0, 2**31))
def test_bits_are_least_significant_first_in_whole_words_with_zero_tails(channels: int, seed: int) -> None:
    x = codes((3, channels), -1.0, seed)
    bits = packed(x, 1)
    assert bits.shape == (3, 4 * ((channels + 31) // 32))
    for c in range(8 * bits.shape[1]):
        expected = x[:, c] > 0 if c < channels else torch.zeros(3, dtype=torch.bool)
        assert (((bits[:, c // 8] >> (c % 8)) & 1) == expected.numpy()).all()
    assert (B.unpack_bits(bits, channels) == x.numpy()).all()


def test_zero_is_high() -> None:
    bits = B.pack(np.array([[-0.0, 0.0, -1e-45, 1e-45]], np.float32), np.zeros(1, np.float32), 1)
    assert bits[0, 0] == 0b1011


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_packing_any_axis_moves_it_to_the_end_and_back(axis: int) -> None:
    x = codes((2, 3, 5), -1.0, 0)
    bits = packed(x, axis)
    rest = [n for i, n in enumerate(x.shape) if i != axis]
    assert bits.shape == (*rest, 4)
    assert (B.unpack(bits, axis, x.shape[axis]) == x.numpy()).all()


geometries = st.fixed_dictionaries(
    {
        "rank": st.integers(1, 3),
        "kernel": st.integers(1, 3),
        "stride": st.integers(1, 2),
        "dilation": st.integers(1, 2),
        "before": st.integers(0, 2),
        "after": st.integers(0, 2),
        "group": st.integers(1, 2),
        "per_group": st.integers(1, 5),
        "pad_value": st.sampled_from([-1.0, 0.0, 1.0]),
        "low": st.sampled_from([-1.0, 0.0]),
        "seed": st.integers(0, 2**31),
    }
)


@settings(max_examples=60, deadline=None)
@given(geometries)
def test_convolution_sums_are_torchs(g: dict[str, Any]) -> None:
    rank, group = g["rank"], g["group"]
    pad_value = 0.0 if g["low"] == 0 and g["pad_value"] < 0 else g["pad_value"]
    channels, outputs = group * g["per_group"], group * 3
    x = codes((2, channels, *[6 + i for i in range(rank)]), g["low"], g["seed"])
    w = codes((outputs, g["per_group"], *[g["kernel"]] * rank), -1.0, g["seed"] + 1)
    pads = (g["before"],) * rank + (g["after"],) * rank
    geometry = Geometry(tuple(w.shape[2:]), (g["stride"],) * rank, (g["dilation"],) * rank, pads, group)
    bordered = F.pad(x, [g["before"], g["after"]] * rank, value=pad_value)
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    expected = conv(bordered, w, None, g["stride"], 0, g["dilation"], group)
    found = conv_sums(packed(x, 1), B.pack_weight(w.numpy()), channels, geometry, pad_value, g["low"])
    assert found.dtype == np.int32
    assert (found == expected.numpy()).all()


@settings(max_examples=40, deadline=None)
@given(geometries)
def test_transposed_sums_are_torchs(g: dict[str, Any]) -> None:
    rank, group, crop = g["rank"], g["group"], min(g["before"], g["kernel"] - 1)
    channels = group * g["per_group"]
    x = codes((2, channels, *[4 + i for i in range(rank)]), g["low"], g["seed"])
    w = codes((channels, 3, *[g["kernel"]] * rank), -1.0, g["seed"] + 1)
    longer = g["stride"] - 1
    geometry = Geometry(tuple(w.shape[2:]), (g["stride"],) * rank, (g["dilation"],) * rank, (crop,) * 2 * rank, group)
    conv = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[rank]
    expected = conv(x, w, None, g["stride"], crop, longer, group, g["dilation"])
    weight = B.pack_weight(w.numpy())
    found = transposed_sums(packed(x, 1), weight, channels, 3 * group, geometry, (longer,) * rank, g["low"])
    assert (found == expected.numpy()).all()


@given(st.integers(1, 70), st.sampled_from([-1.0, 0.0]), st.integers(0, 2**31))
def test_dense_and_matrix_products(terms: int, low: float, seed: int) -> None:
    x, w = codes((2, 3, terms), low, seed), codes((4, terms), -1.0, seed + 1)
    found = dense_sums(packed(x, 2), B.pack_weight(w.numpy()), terms, low)
    assert (found == (x @ w.t()).numpy()).all()
    y = codes((2, 5, terms), -1.0, seed + 2)
    found = matmul_sums(packed(x, 2), packed(y, 2), terms if low else 0, low)
    assert (found == (x @ y.transpose(1, 2)).numpy()).all()


def test_the_largest_code_of_a_window() -> None:
    x = codes((2, 5, 7, 6), -1.0, 0)
    geometry = Geometry((3, 2), (2, 1), (1, 2), (1, 0, 0, 1))
    found = pooled_bits(packed(x, 1), 5, geometry)
    bordered = F.pad(x, [0, 1, 1, 0], value=-1.0)
    expected = F.max_pool2d(bordered, (3, 2), (2, 1), 0, (1, 2))
    assert (B.unpack(found, 1, 5) == expected.numpy()).all()


def test_the_float_epilogue_rounds_every_step() -> None:
    torch.manual_seed(0)
    x, w = codes((2, 6, 5, 5), -1.0, 0), codes((4, 6, 3, 3), -1.0, 1)
    scale, bias, before, slope, after, following = (torch.randn(4) for _ in range(6))
    z = F.conv2d(x, w)
    residual = torch.randn_like(z)
    side = (-1, 1, 1)
    v = z * scale.view(side) + bias.view(side)
    v = v + residual + before.view(side)
    v = torch.where(v < 0, v * slope.view(side), v) + after.view(side)
    attributes = {
        "kernel_shape": [3, 3],
        "strides": [1, 1],
        "dilations": [1, 1],
        "pads": [0] * 4,
        "group": 1,
        "channels": [6],
        "pad_value": 0.0,
        "low": -1.0,
    }
    steps = [scale, bias, residual, before, slope, after, following]
    inputs = [packed(x, 1), B.pack_weight(w.numpy()), *[step.numpy() for step in steps]]
    found, bits = compute("BinaryConvFloatBits", attributes, inputs)
    assert (found == v.numpy()).all()
    assert (B.unpack(bits, 1, 4) == torch.where(v >= following.view(side), 1.0, -1.0).numpy()).all()
    inputs[4] = np.ascontiguousarray(residual.permute(0, 2, 3, 1).numpy())
    last, same = compute("BinaryConvFloatBitsLast", attributes, inputs)
    assert (np.moveaxis(last, -1, 1) == found).all()
    assert (same == bits).all()


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(ExportError, match="'BinaryConvolution' is no operator of the domain 'bnnapps'"):
        compute("BinaryConvolution", {}, [])


@given(st.floats(-(2.0**100), 2.0**100, width=32), st.floats(0.0625, 64, width=32))
def test_the_threshold_of_a_rounded_function_is_found_exactly(shift: float, scale: float) -> None:
    offset, factor = torch.tensor([shift]), torch.tensor([scale])
    limit = first_high(lambda x: (x * factor + offset) >= 0, (1,))
    below = torch.nextafter(limit, torch.tensor([-torch.inf]))
    assert bool((limit * factor + offset >= 0).all())
    assert not bool((below * factor + offset >= 0).any())


def test_thresholds_at_zero_and_beyond_every_float() -> None:
    zero = first_high(lambda x: x >= 0, (1,))
    assert zero.item() == 0.0
    both = first_high(lambda x: torch.tensor([True, False]).expand_as(x), (2,))
    assert both.tolist() == [-torch.inf, torch.inf]
    assert first_high(lambda x: x > 0, (1,)).item() == pytest.approx(1.4e-45, abs=1e-46)

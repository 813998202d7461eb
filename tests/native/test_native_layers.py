"""Convolutions and transposed convolutions on every instruction set against torch's exact sums."""

from __future__ import annotations

import kernel_reference
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernel_calls import Backwards, Layer, Steps, epilogue, pack_last, unpack_last, using, words

from bnnapps.export import runtime
from bnnapps.kernels import structures as c

ISAS = runtime.available()


@st.composite
def layers(draw: st.DrawFn, transposed: bool) -> tuple[Layer, tuple[int, ...], int, int]:
    """A layer, the size of its input, the batch and a seed."""
    rank = draw(st.sampled_from((1, 2, 2, 3)))

    def per_dimension(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    groups = draw(st.sampled_from((1, 1, 2, 3, 8)))
    group_channels = draw(st.sampled_from((1, 2, 3, 31, 32, 33, 48, 64)))
    group_outputs = draw(st.sampled_from((1, 2, 5, 16, 17, 32, 40, 64, 70)))
    kernel, stride, dilation = per_dimension(1, 3), per_dimension(1, 3), per_dimension(1, 2)
    codes = draw(st.sampled_from((c.SIGNED, c.UNSIGNED)))
    pad_value = 0 if transposed else draw(st.sampled_from((-1, 0, 1) if codes == c.SIGNED else (0, 1)))
    output_pad = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    seed = draw(st.integers(0, 2**31))
    shape = (groups * group_channels, group_outputs) if transposed else (groups * group_outputs, group_channels)
    weight = signs(np.random.default_rng(seed), (*shape, *kernel))
    layer = Layer(
        weight,
        groups,
        stride,
        dilation,
        per_dimension(0, 3),
        per_dimension(0, 3),
        pad_value,
        codes,
        transposed,
        output_pad,
    )
    return layer, per_dimension(1, 80 if rank == 1 else 9), draw(st.integers(1, 3)), seed


def signs(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(random.random(shape) < 0.5, -1, 1)


def expected_size(layer: Layer, size: tuple[int, ...]) -> list[int]:
    result = []
    for d in range(layer.rank):
        reach, pads = (layer.weight.shape[2 + d] - 1) * layer.dilation[d] + 1, layer.pad_begin[d] + layer.pad_end[d]
        if layer.transposed:
            result.append((size[d] - 1) * layer.stride[d] + reach + layer.output_pad[d] - pads)
        else:
            result.append((size[d] + pads - reach) // layer.stride[d] + 1)
    return result


def check_layer(isa: str, layer: Layer, size: tuple[int, ...], batch: int, seed: int) -> None:
    random = np.random.default_rng(seed + 1)
    if min(expected_size(layer, size)) <= 0:
        assume(False)
    output = layer.output_size(size)
    high = random.random((batch, layer.channels, *size)) < random.choice((0.0, 0.5, 1.0), p=(0.1, 0.8, 0.1))
    z = np.moveaxis(kernel_reference.sums(layer, np.where(high, 1, -1 if layer.codes == c.SIGNED else 0)), 1, -1)
    assert z.shape[1:-1] == output
    bits, outputs = pack_last(np.moveaxis(high, 1, -1)), layer.outputs
    pool = Backwards().pointer() if seed % 2 else None

    def some(*counts: int) -> np.ndarray | None:
        count = random.choice(counts)
        return random.standard_normal(count).astype(np.float32) if count else None

    with using(isa):
        for layout in (c.CHANNELS_LAST, c.CHANNELS_FIRST):
            last = layout == c.CHANNELS_LAST
            shape = (batch, *output, outputs) if last else (batch, outputs, *output)

            ints = np.full(shape, 7777, np.int32)
            layer.run(bits, epilogue(c.INT32, ints, layout), pool)
            np.testing.assert_array_equal(ints if last else np.moveaxis(ints, 1, -1), z)

            steps = Steps(*(some(0, 1, outputs) for _ in range(6)), next=some(1, outputs))
            steps.residual = random.standard_normal(shape).astype(np.float32) if random.random() < 0.5 else None
            floats, following = (
                np.full(shape, np.nan, np.float32),
                np.zeros((batch, *output, words(outputs)), np.uint32),
            )
            layer.run(bits, epilogue(c.FLOAT32, floats, layout, steps=steps, bits=following), pool)
            if steps.residual is not None and not last:
                steps.residual = np.moveaxis(steps.residual, 1, -1)
            expected = kernel_reference.floats(z, steps)
            found = np.ascontiguousarray(floats if last else np.moveaxis(floats, 1, -1))
            np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
            np.testing.assert_array_equal(unpack_last(following, outputs), expected >= steps.next)

        threshold = random.integers(-30, 30, outputs).astype(np.int32)
        result = np.full((batch, *output, words(outputs)), 7777, np.uint32)
        layer.run(bits, epilogue(c.BITS, result, threshold=threshold), pool)
        np.testing.assert_array_equal(unpack_last(result, outputs), z >= threshold)


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=120)
@given(data=layers(transposed=False))
def test_convolutions_equal_torch(isa: str, data: tuple[Layer, tuple[int, ...], int, int]) -> None:
    check_layer(isa, *data)


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=60)
@given(data=layers(transposed=True))
def test_transposed_convolutions_equal_torch(isa: str, data: tuple[Layer, tuple[int, ...], int, int]) -> None:
    check_layer(isa, *data)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pad_value", [-1, 0, 1])
def test_a_layer_of_a_real_network(isa: str, pad_value: int) -> None:
    random = np.random.default_rng(3)
    layer = Layer(signs(random, (128, 96, 3, 3)), 1, (1, 1), (1, 1), (1, 1), (1, 1), pad_value)
    check_layer(isa, layer, (20, 13), 2, 5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("codes", "high"), [(c.SIGNED, 1), (c.SIGNED, 0), (c.UNSIGNED, 1), (c.UNSIGNED, 0)])
@pytest.mark.parametrize("weight", [-1, 1])
def test_extreme_sums(isa: str, codes: int, high: int, weight: int) -> None:
    channels, taps = 2000, 25
    layer = Layer(np.full((33, channels, 5, 5), weight), 1, (1, 1), (1, 1), (0, 0), (0, 0), 0, codes)
    bits = pack_last(np.full((1, 5, 5, channels), high))
    code = 1 if high else (-1 if codes == c.SIGNED else 0)
    y = np.zeros((1, 1, 1, 33), np.int32)
    with using(isa):
        layer.run(bits, epilogue(c.INT32, y))
        assert (y == code * weight * channels * taps).all()
        z = int(y.flat[0])
        for threshold, expected in ((z, 1), (z + 1, 0), (-(2**31), 1), (2**31 - 1, 0)):
            out = np.zeros((1, 1, 1, 2), np.uint32)
            layer.run(bits, epilogue(c.BITS, out, threshold=np.full(33, threshold, np.int32)))
            assert (unpack_last(out, 33) == expected).all()


def test_many_sizes_of_one_object() -> None:
    """More sizes than the object keeps tables for."""
    random = np.random.default_rng(0)
    layer = Layer(signs(random, (8, 40, 3)), 1, (1,), (1,), (1,), (2,), 0)
    from kernel_calls import address, ctypes, load_library  # the object is kept, unlike in Layer.run

    with layer.handle() as (handle, _):
        for _round in range(2):
            for size in range(3, 25):
                high = random.random((1, 40, size)) < 0.5
                z = np.moveaxis(kernel_reference.sums(layer, np.where(high, 1, -1)), 1, -1)
                y = np.zeros(z.shape, np.int32)
                status = load_library().bnn_conv_run(
                    handle,
                    address(pack_last(np.moveaxis(high, 1, -1))),
                    1,
                    address(np.array([size], np.int64)),
                    ctypes.byref(epilogue(c.INT32, y)),
                    None,
                )
                assert status == c.OK
                np.testing.assert_array_equal(y, z)

"""Bad arguments: a status and a message that names what is wrong, and nothing written."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from kernel_calls import Layer, Steps, address, epilogue, pack_weight, sizes

from bnnapps.kernels import structures as c
from bnnapps.kernels.library import load_library


def refused(status: int, message: str, expected: int = c.INVALID_ARGUMENT) -> None:
    assert status == expected
    assert message in load_library().bnn_last_error().decode()


def good() -> Layer:
    return Layer(np.ones((4, 3, 3, 3)), 1, (1, 1), (1, 1), (1, 1), (1, 1), 0)


CONV = [
    ({"rank": 0}, "rank is 0"),
    ({"rank": 4}, "rank is 4"),
    ({"channels": 0}, "channels is 0"),
    ({"outputs": -1}, "outputs is -1"),
    ({"groups": 0}, "groups is 0"),
    ({"groups": 2}, "does not divide"),
    ({"codes": 2}, "codes is 2"),
    ({"pad_value": 2}, "pad_value is 2"),
    ({"pad_value": -1, "codes": c.UNSIGNED}, "unsigned"),
    ({"kernel": sizes((0, 3))}, "kernel[0] is 0"),
    ({"stride": sizes((1, -1))}, "stride[1] is -1"),
    ({"dilation": sizes((0, 1))}, "dilation[0] is 0"),
    ({"pad_begin": sizes((-1, 0))}, "pad_begin[0] is -1"),
    ({"pad_end": sizes((0, -5))}, "pad_end[1] is -5"),
    ({"kernel": sizes((5, 3))}, "bytes"),
    ({"channels": 2**62, "kernel": sizes((2**30, 2**30))}, "overflows"),
    ({"kernel": sizes((3, 2**31))}, "kernel[1] is 2147483648, more than 2147483647"),
    ({"stride": sizes((2**31, 1))}, "stride[0] is 2147483648"),
    ({"dilation": sizes((2**63 - 1, 1))}, "dilation[0] is 9223372036854775807"),
    ({"pad_begin": sizes((2**62, 1))}, "pad_begin[0] is 4611686018427387904"),
    ({"pad_end": sizes((1, 2**40))}, "pad_end[1] is 1099511627776"),
]


@pytest.mark.parametrize(("changes", "message"), CONV)
def test_convolutions_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    layer, handle = good(), ctypes.c_void_p()
    shape, packed = layer.shape(), pack_weight(layer.weight)
    for name, value in changes.items():
        setattr(shape, name, value)
    status = load_library().bnn_conv_create(ctypes.byref(shape), address(packed), packed.size, ctypes.byref(handle))
    refused(status, message)
    assert handle.value is None


def test_sums_of_too_many_terms() -> None:
    packed, handle = np.zeros(8, np.uint8), ctypes.c_void_p()
    status = load_library().bnn_dense_create(2**40, 1, c.SIGNED, address(packed), 2**37, ctypes.byref(handle))
    refused(status, "terms", c.UNSUPPORTED)


def test_transposed_output_padding() -> None:
    layer, handle = Layer(np.ones((3, 4, 2)), output_pad=(1,), transposed=True), ctypes.c_void_p()
    packed = pack_weight(layer.weight)
    status = load_library().bnn_transposed_create(
        ctypes.byref(layer.shape()), address(packed), packed.size, ctypes.byref(handle)
    )
    refused(status, "output_pad[0] is 1")


@pytest.mark.parametrize(
    ("size", "message"),
    [((0, 5), "size[0] is 0"), ((5, -1), "size[1] is -1"), ((2**62, 2**62), "overflow"), ((2**63 - 1, 4), "overflow")],
)
def test_input_sizes_that_cannot_be(size: tuple[int, int], message: str) -> None:
    bits, y = np.zeros(64, np.uint32), np.full(64, 7, np.int32)
    given = np.array(size, np.int64)
    with good().handle() as (handle, _):
        e = epilogue(c.INT32, y)
        refused(load_library().bnn_conv_run(handle, address(bits), 1, address(given), ctypes.byref(e), None), message)
    assert (y == 7).all()


def test_a_kernel_larger_than_its_input() -> None:
    layer = Layer(np.ones((1, 1, 5)))
    size, output = np.array([3], np.int64), np.full(1, 7, np.int64)
    with layer.handle() as (handle, _):
        refused(load_library().bnn_conv_output_size(handle, address(size), address(output)), "would be empty")
    assert output[0] == 7


def test_transposed_strides_with_too_many_phases() -> None:
    layer = Layer(np.ones((1, 1, 2, 2, 2)), 1, (16, 16, 17), (1, 1, 1), (0, 0, 0), (0, 0, 0), transposed=True)
    packed, handle = pack_weight(layer.weight), ctypes.c_void_p()
    create, shape = load_library().bnn_transposed_create, layer.shape()
    refused(create(ctypes.byref(shape), address(packed), packed.size, ctypes.byref(handle)), "4352", c.UNSUPPORTED)
    shape.stride = sizes((16, 16, 16))
    assert create(ctypes.byref(shape), address(packed), packed.size, ctypes.byref(handle)) == c.OK
    load_library().bnn_transposed_destroy(handle)


@pytest.mark.parametrize(
    ("pad", "message"),
    [(2**28, "padding would take 2147483652 bytes"), (2**31 - 1, "an image has 4294967295 words with its padding")],
)
def test_padding_out_of_all_proportion(pad: int, message: str) -> None:
    """Three windows far apart: the copy of the input with its padding would take gigabytes."""
    layer = Layer(np.ones((1, 1, 1)), stride=(pad,), pad_begin=(pad,), pad_end=(pad,))
    bits, y, size = np.zeros(1, np.uint32), np.full(3, 7, np.int32), np.array([1], np.int64)
    with layer.handle() as (handle, _):
        e = epilogue(c.INT32, y)
        status = load_library().bnn_conv_run(handle, address(bits), 1, address(size), ctypes.byref(e), None)
    refused(status, message, c.UNSUPPORTED)
    assert (y == 7).all()


def test_wide_padding_is_no_mistake() -> None:
    layer = Layer(np.ones((1, 1, 1)), stride=(2**20,), pad_begin=(2**20,), pad_end=(2**20,), pad_value=1)
    bits, y = np.zeros((1, 1, 1), np.uint32), np.full(3, 7, np.int32)
    layer.run(bits, epilogue(c.INT32, y))
    assert y.tolist() == [1, -1, 1]


EPILOGUES = [
    ({"output": 3}, "output is 3"),
    ({"layout": 2}, "layout is 2"),
    ({"y": None}, "y is null"),
    ({"output": c.BITS}, "threshold is null"),
    ({"scales": 2}, "scale has 2 entries"),
    ({"biases": 0}, "bias has 0 entries"),
    ({"befores": 5}, "before has 5 entries"),
    ({"slopes": 3}, "slope has 3 entries"),
    ({"afters": 3}, "after has 3 entries"),
    ({"nexts": 3}, "next has 3 entries"),
    ({"next": None}, "next is null"),
]


@pytest.mark.parametrize(("changes", "message"), EPILOGUES)
def test_epilogues_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    values, bits = np.zeros(4, np.float32), np.zeros(25, np.uint32)
    y, following, size = np.full(100, 7, np.float32), np.full(25, 7, np.uint32), np.array([5, 5], np.int64)
    e = epilogue(c.FLOAT32, y, bits=following)
    for name, count in (("scale", "scales"), ("bias", "biases"), ("before", "befores"), ("slope", "slopes"),
                        ("after", "afters"), ("next", "nexts")):  # fmt: skip
        setattr(e, name, address(values))
        setattr(e, count, 4)
    for name, value in changes.items():
        setattr(e, name, value)
    with good().handle() as (handle, _):
        refused(load_library().bnn_conv_run(handle, address(bits), 1, address(size), ctypes.byref(e), None), message)
    assert (y == 7).all()
    assert (following == 7).all()


def test_null_pointers_and_negative_counts() -> None:
    library, layer = load_library(), good()
    bits, y, size = np.zeros(25, np.uint32), np.full(100, 7, np.int32), np.array([5, 5], np.int64)
    e, handle, packed = ctypes.byref(epilogue(c.INT32, y)), ctypes.c_void_p(), pack_weight(layer.weight)
    refused(library.bnn_conv_create(None, address(packed), packed.size, ctypes.byref(handle)), "shape is null")
    refused(library.bnn_conv_create(ctypes.byref(layer.shape()), None, packed.size, ctypes.byref(handle)), "weight")
    refused(library.bnn_conv_create(ctypes.byref(layer.shape()), address(packed), packed.size, None), "conv is null")
    refused(library.bnn_conv_run(None, address(bits), 1, address(size), e, None), "conv is null")
    with layer.handle() as (conv, _):
        refused(library.bnn_conv_run(conv, None, 1, address(size), e, None), "bits is null")
        refused(library.bnn_conv_run(conv, address(bits), -1, address(size), e, None), "batch is -1")
        refused(library.bnn_conv_run(conv, address(bits), 1, None, e, None), "size is null")
        refused(library.bnn_conv_run(conv, address(bits), 1, address(size), None, None), "epilogue is null")
        refused(library.bnn_conv_run(conv, address(bits), 2**60, address(size), e, None), "overflow")
        assert library.bnn_conv_run(conv, address(bits), 0, address(size), e, None) == c.OK
    assert (y == 7).all()
    library.bnn_conv_destroy(None)
    refused(library.bnn_set_isa(None), "name is null")
    refused(library.bnn_set_isa(b"mmx"), "'mmx' is not available", c.UNSUPPORTED)


def test_packing_arguments() -> None:
    library, x, t = load_library(), np.zeros(8, np.float32), np.zeros(3, np.float32)
    bits = np.full(8, 7, np.uint32)
    refused(library.bnn_pack(address(x), 1, 0, 1, address(t), 1, address(bits), None), "channels is 0")
    refused(library.bnn_pack(address(x), 1, 8, 1, address(t), 3, address(bits), None), "3 thresholds")
    refused(library.bnn_pack(None, 1, 8, 1, address(t), 1, address(bits), None), "null")
    refused(library.bnn_pack(address(x), 1, 8, 1, None, 1, address(bits), None), "threshold is null")
    refused(library.bnn_pack(address(x), 2**40, 2**30, 1, address(t), 1, address(bits), None), "overflow")
    refused(library.bnn_unpack(address(bits), 1, 0, 1, 0.0, address(x), None), "channels is 0")
    assert (bits == 7).all()


def test_matmul_and_pool_arguments() -> None:
    library, a, y = load_library(), np.zeros(8, np.uint32), np.full(8, 7, np.int32)

    def matmul(**changes: Any) -> int:
        shape = c.MatmulShape(1, 2, 2, 32, c.SIGNED, c.INT32, 1.0, 0.0)
        for name, value in changes.items():
            setattr(shape, name, value)
        return int(library.bnn_matmul(ctypes.byref(shape), address(a), address(a), address(y), None))

    refused(matmul(rows=-1), "rows is -1")
    refused(matmul(terms=0), "terms is 0")
    refused(matmul(codes=5), "codes is 5")
    refused(matmul(output=5), "output is 5")
    refused(matmul(addend=address(a), addend_row=-1), "negative")
    refused(matmul(batch=2**40, rows=2**40), "overflow")
    refused(matmul(terms=2**30), "terms", c.UNSUPPORTED)
    refused(library.bnn_matmul(None, address(a), address(a), address(y), None), "shape is null")
    assert matmul(batch=0) == c.OK

    pool = c.PoolShape(1, 0, *(sizes((1,)) for _ in range(3)), sizes((0,)), sizes((0,)))
    size = np.array([4], np.int64)
    refused(library.bnn_maxpool(ctypes.byref(pool), address(a), 1, address(size), address(y), None), "channels is 0")
    pool.channels, pool.dilation = 8, sizes((2**63 - 1,))
    refused(library.bnn_maxpool(ctypes.byref(pool), address(a), 1, address(size), address(y), None), "dilation[0] is")
    pool.dilation, pool.kernel = sizes((1,)), sizes((9,))
    refused(library.bnn_maxpool(ctypes.byref(pool), address(a), 1, address(size), address(y), None), "empty")
    assert (y == 7).all()


def test_scales_that_cannot_be_doubled() -> None:
    """The kernels double scales to save a shift; where that would overflow, 0 times infinity must not come out."""
    layer = Layer(np.array([[1, -1], [1, 1]]).reshape(2, 2, 1))
    bits, y = np.full((1, 1, 1), 3, np.uint32), np.full(2, 7, np.float32)
    largest = np.finfo(np.float32).max
    steps = Steps(scale=np.array([largest, -1e38], np.float32))
    layer.run(bits, epilogue(c.FLOAT32, y, steps=steps))
    assert y.tolist() == [0.0, np.float32(2) * np.float32(-1e38)]

"""The parts that bodies share: bits to codes and back, and weights."""

from __future__ import annotations

from onnx import TensorProto, helper

from bnnapps.export.runtime.functions.body import BITS_OF_A_BYTE, Body, integer, ints, real


def unpacked(body: Body, packed: str, *lead: str) -> str:
    """The bits [lead..., 8 * bytes] of `packed` [..., bytes] as booleans; `lead` are the sizes in front."""
    masks = body.constant(value=helper.make_tensor("masks", TensorProto.UINT8, [8], BITS_OF_A_BYTE))
    single = body.op("BitwiseAnd", body.op("Unsqueeze", packed, body.vector(-1)), masks)
    high = body.cast(single, TensorProto.BOOL)
    count = body.op("Mul", body.op("Shape", packed, start=-1), body.vector(8))
    return body.reshape(high, *lead, count)


def first(body: Body, value: str, count: str, axis: int) -> str:
    """The first `count` entries of an axis."""
    return body.op("Slice", value, body.vector(0), count, body.vector(axis))


def coded(body: Body, high: str, low: str) -> str:
    """1 where `high`, `low` elsewhere, as float32."""
    return body.op("Where", high, body.constant(value_float=1.0), low)


def low_code(body: Body) -> str:
    """The low code of the input: the attribute `low`."""
    return body.constant(value_float=real("low"))


def channels(body: Body) -> str:
    """The number of channels or terms: the attribute `channels`."""
    return body.constant(value_ints=ints("channels"))


def rows(body: Body, packed: str, count: str) -> str:
    """The bits [..., count] of packed rows [..., bytes]."""
    return first(body, unpacked(body, packed, body.op("Shape", packed, end=-1)), count, -1)


def feature_map(body: Body, packed: str) -> str:
    """The bits [N, C, size...] of a packed map [N, size..., bytes]."""
    batch = body.op("Shape", packed, end=1)
    size = body.op("Shape", packed, start=1, end=-1)
    flat = first(body, unpacked(body, packed, batch, body.product(size)), channels(body), 2)
    return body.reshape(body.op("Transpose", flat, perm=[0, 2, 1]), batch, channels(body), size)


def weight(body: Body, packed: str, *shape: str) -> str:
    """The codes -1 and +1 of a packed weight, in a shape whose first size is that of `packed`.

    Everything here is constant where the weight is, so runtimes compute it once, when they load the file.
    """
    sizes = body.join(*shape)
    terms = body.product(sizes)
    outer = body.op("Shape", packed, end=1)
    high = first(body, unpacked(body, packed, outer), terms, 1)
    return coded(body, body.reshape(high, outer, sizes), body.constant(value_float=-1.0))


def conv_weight(body: Body, packed: str) -> str:
    """The weight [O, C / group, kernel...] of a convolution."""
    group = body.constant(value_int=integer("group"))
    return weight(body, packed, body.op("Div", channels(body), group), body.constant(value_ints=ints("kernel_shape")))


def packed(body: Body, high: str) -> str:
    """Booleans [..., C] as whole words of bits, uint8 [..., 4 * ceil(C / 32)]."""
    count = body.op("Shape", high, start=-1)
    word = body.vector(32)
    words = body.op("Div", body.op("Add", count, body.vector(31)), word)
    missing = body.op("Sub", body.op("Mul", words, word), count)
    pads = body.join(body.vector(0), missing)
    whole = body.op("Pad", body.cast(high, TensorProto.FLOAT), pads, "", body.vector(-1))
    size = body.op("Shape", high, end=-1)
    octets = body.reshape(whole, size, body.op("Mul", words, body.vector(4)), body.vector(8))
    values = body.constant(value_floats=[float(value) for value in BITS_OF_A_BYTE])
    # A column rather than a vector: older versions of ONNX Runtime multiply no empty tensor by a vector.
    column = body.op("Unsqueeze", values, body.vector(-1))
    sums = body.op("Squeeze", body.op("MatMul", octets, column), body.vector(-1))
    return body.cast(sums, TensorProto.UINT8)


def channels_last(body: Body, value: str) -> str:
    """[N, C, size...] to [N, size..., C]."""
    batch = body.op("Shape", value, end=1)
    count = body.op("Shape", value, start=1, end=2)
    size = body.op("Shape", value, start=2)
    flat = body.reshape(value, batch, count, body.product(size))
    return body.reshape(body.op("Transpose", flat, perm=[0, 2, 1]), batch, size, count)

"""Bodies of the operators without weights: packing, unpacking, products of two activations, pooling."""

from __future__ import annotations

from onnx import FunctionProto, TensorProto

from bnnapps.export.runtime.functions.bits import (
    channels,
    channels_last,
    coded,
    feature_map,
    first,
    low_code,
    packed,
    unpacked,
)
from bnnapps.export.runtime.functions.body import Body, integer, ints
from bnnapps.export.runtime.functions.epilogue import integers
from bnnapps.export.runtime.functions.layers import padded

MATMUL_KINDS = ("Integer", "Float", "Bits")
FAR = 2**62  # behind the end of any axis
POOL_ATTRIBUTES = ("kernel_shape", "strides", "dilations", "pads", "channels")


def _axis(body: Body) -> str:
    return body.op("Reshape", body.constant(value_int=integer("axis")), body.vector(1))


def pack() -> FunctionProto:
    """Pack: the axis of the channels moves to the end and becomes bits."""
    body = Body()
    shape, axis = body.op("Shape", "X"), _axis(body)
    behind = body.op("Add", axis, body.vector(1))
    outer = body.op("Slice", shape, body.vector(0), axis)
    count = body.op("Slice", shape, axis, behind)
    inner = body.op("Slice", shape, behind, body.vector(FAR))
    flat = body.reshape("X", body.product(outer), count, body.product(inner))
    high = body.op("GreaterOrEqual", body.op("Transpose", flat, perm=[0, 2, 1]), "threshold")
    bits = body.reshape(packed(body, high), outer, inner, _words(body, count))
    return body.function("Pack", "Bits of the codes X >= threshold.", ["X", "threshold"], {"bits": bits}, ["axis"])


def _words(body: Body, count: str) -> str:
    """The bytes of that many packed channels."""
    words = body.op("Div", body.op("Add", count, body.vector(31)), body.vector(32))
    return body.op("Mul", words, body.vector(4))


def unpack() -> FunctionProto:
    """Unpack: the inverse, with the channels back at their axis."""
    body = Body()
    shape, axis = body.op("Shape", "X", end=-1), _axis(body)
    outer = body.op("Slice", shape, body.vector(0), axis)
    inner = body.op("Slice", shape, axis, body.vector(FAR))
    high = first(body, unpacked(body, "X", body.product(outer), body.product(inner)), channels(body), 2)
    moved = body.op("Transpose", high, perm=[0, 2, 1])
    codes = coded(body, body.reshape(moved, outer, channels(body), inner), low_code(body))
    return body.function("Unpack", "Float codes of bits.", ["X"], {"Y": codes}, ["axis", "channels", "low"])


def matmul(kind: str) -> FunctionProto:
    """BinaryMatMul<kind>. Unsigned A takes part with all its bits where the number of terms is not known."""
    body = Body()
    terms = body.op("Where", body.op("Greater", channels(body), body.vector(0)), channels(body), body.vector(FAR))
    lead = body.op("Shape", "A", end=-2)
    batch = body.product(lead)
    m, n = body.op("Shape", "A", start=-2, end=-1), body.op("Shape", "B", start=-2, end=-1)
    a = coded(body, first(body, unpacked(body, "A", batch, m), terms, 2), low_code(body))
    b = coded(body, first(body, unpacked(body, "B", batch, n), terms, 2), body.constant(value_float=-1.0))
    sums = integers(body, body.op("MatMul", a, body.op("Transpose", b, perm=[0, 2, 1])))
    z = body.reshape(sums, lead, m, n)
    inputs, outputs = ["A", "B"], {"Y": z}
    if kind != "Integer":
        value = body.op("Add", body.op("Mul", body.cast(z, TensorProto.FLOAT), "scale"), "addend")
        inputs += ["scale", "addend"]
        outputs = {"Y": value}
        if kind == "Bits":
            inputs.append("threshold")
            outputs = {"bits": packed(body, body.op("GreaterOrEqual", value, "threshold"))}
    about = "Product of two packed activations, the second one transposed."
    return body.function(f"BinaryMatMul{kind}", about, inputs, outputs, ["channels", "low"])


def max_pool() -> FunctionProto:
    """BinaryMaxPool. Padding is explicit: MaxPool's own would have to be smaller than the window.

    It is -1 beside bits of 0 and 1, which comes to the same: ONNX Runtime would fuse a padding with 0 into MaxPool.
    """
    body = Body()
    codes = body.cast(feature_map(body, "X"), TensorProto.FLOAT)
    pooled = body.op(
        "MaxPool",
        padded(body, codes, body.constant(value_float=-1.0)),
        kernel_shape=ints("kernel_shape"),
        strides=ints("strides"),
        dilations=ints("dilations"),
    )
    bits = packed(body, channels_last(body, body.op("Greater", pooled, body.constant(value_float=0.0))))
    return body.function("BinaryMaxPool", "Largest code of each window.", ["X"], {"bits": bits}, POOL_ATTRIBUTES)

"""Bodies of the operators with weights: convolution, transposed convolution, dense layer."""

from __future__ import annotations

from onnx import FunctionProto

from bnnapps.export.runtime.functions.bits import (
    channels,
    coded,
    conv_weight,
    feature_map,
    low_code,
    rows,
    weight,
)
from bnnapps.export.runtime.functions.body import Body, integer, ints, real
from bnnapps.export.runtime.functions.epilogue import inputs_of, outputs_of

CONV_KINDS = ("Integer", "Bits", "Float", "FloatBits", "FloatLast", "FloatBitsLast")
DENSE_KINDS = ("Integer", "Bits", "Float", "FloatBits")
TRANSPOSED_KINDS = ("Integer", "Bits", "Float")

CONV_ATTRIBUTES = ("kernel_shape", "strides", "dilations", "pads", "group", "channels", "pad_value", "low")
DENSE_ATTRIBUTES = ("channels", "low")
TRANSPOSED_ATTRIBUTES = (
    "kernel_shape", "strides", "dilations", "pads", "output_padding", "group", "channels", "outputs", "low",
)  # fmt: skip


def padded(body: Body, codes: str, value: str) -> str:
    """Pad the spatial axes of [N, C, size...] by the attribute `pads`."""
    begins, ends = body.split(body.constant(value_ints=ints("pads")), 2)
    other = body.vector(0, 0)
    return body.op("Pad", codes, body.join(other, begins, other, ends), value)


def along_maps(body: Body, vector: str) -> str:
    """A vector of outputs as [O, 1, ...], one 1 per spatial dimension."""
    kernel = body.constant(value_ints=ints("kernel_shape"))
    ones = body.op("Div", kernel, kernel)
    return body.reshape(vector, body.op("Shape", vector), ones)


def conv(kind: str) -> FunctionProto:
    """BinaryConv<kind>."""
    body = Body()
    codes = coded(body, feature_map(body, "X"), low_code(body))
    sums = body.op(
        "Conv",
        padded(body, codes, body.constant(value_float=real("pad_value"))),
        conv_weight(body, "weight"),
        kernel_shape=ints("kernel_shape"),
        strides=ints("strides"),
        dilations=ints("dilations"),
        group=integer("group"),
    )
    outputs = outputs_of(body, sums, kind, lambda vector: along_maps(body, vector))
    return body.function(
        f"BinaryConv{kind}", "Convolution of codes, packed as bits.", inputs_of(kind), outputs, CONV_ATTRIBUTES
    )


def transposed(kind: str) -> FunctionProto:
    """BinaryConvTranspose<kind>."""
    body = Body()
    codes = coded(body, feature_map(body, "X"), low_code(body))
    per_group = body.op("Div", body.constant(value_ints=ints("outputs")), body.constant(value_int=integer("group")))
    sums = body.op(
        "ConvTranspose",
        codes,
        weight(body, "weight", per_group, body.constant(value_ints=ints("kernel_shape"))),
        kernel_shape=ints("kernel_shape"),
        strides=ints("strides"),
        dilations=ints("dilations"),
        pads=ints("pads"),
        output_padding=ints("output_padding"),
        group=integer("group"),
    )
    outputs = outputs_of(body, sums, kind, lambda vector: along_maps(body, vector))
    return body.function(
        f"BinaryConvTranspose{kind}",
        "Transposed convolution of codes, packed as bits.",
        inputs_of(kind),
        outputs,
        TRANSPOSED_ATTRIBUTES,
    )


def dense(kind: str) -> FunctionProto:
    """BinaryDense<kind>."""
    body = Body()
    codes = coded(body, rows(body, "X", channels(body)), low_code(body))
    turned = body.op("Transpose", weight(body, "weight", channels(body)), perm=[1, 0])
    outputs = outputs_of(body, body.op("MatMul", codes, turned), kind, None)
    return body.function(
        f"BinaryDense{kind}", "Dense layer of codes, packed as bits.", inputs_of(kind), outputs, DENSE_ATTRIBUTES
    )

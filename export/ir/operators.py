"""What each operator of the domain computes: the golden model of one node, and of a whole graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnnapps.errors import ExportError
from bnnapps.export.ir import bits as B
from bnnapps.export.ir import sums as S
from bnnapps.export.ir.epilogue import Epilogue, bits_output, float_output, next_bits

DOMAIN = "bnnapps"
VERSION = 1

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]
Compute = Callable[[Attributes, Sequence[Array]], tuple[Array, ...]]

_LAST = "Last"


def compute(op_type: str, attributes: Attributes, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of one node.

    Args:
        op_type: an operator of the domain.
        attributes: of the node, by name.
        inputs: its inputs.

    Raises:
        ExportError: there is no such operator.

    """
    if op_type not in OPERATORS:
        raise ExportError(f"'{op_type}' is no operator of the domain '{DOMAIN}' (known: {', '.join(OPERATORS)})")
    return OPERATORS[op_type](attributes, inputs)


def geometry_of(attributes: Attributes) -> S.Geometry:
    """The geometry that a node's attributes describe."""
    kernel, strides, dilations, pads = (tuple(attributes[n]) for n in ("kernel_shape", "strides", "dilations", "pads"))
    return S.Geometry(kernel, strides, dilations, pads, attributes.get("group", 1))


def _pack(a: Attributes, x: Sequence[Array]) -> tuple[Array, ...]:
    return (B.pack(x[0], x[1], a["axis"]),)


def _unpack(a: Attributes, x: Sequence[Array]) -> tuple[Array, ...]:
    return (B.unpack(x[0], a["axis"], a["channels"][0], a["low"]),)


def _conv(a: Attributes, x: Sequence[Array]) -> Array:
    return S.conv_sums(x[0], x[1], a["channels"][0], geometry_of(a), a["pad_value"], a["low"])


def _dense(a: Attributes, x: Sequence[Array]) -> Array:
    return S.dense_sums(x[0], x[1], a["channels"][0], a["low"])


def _transposed(a: Attributes, x: Sequence[Array]) -> Array:
    return S.transposed_sums(
        x[0], x[1], a["channels"][0], a["outputs"][0], geometry_of(a), a["output_padding"], a["low"]
    )


def _matmul(a: Attributes, x: Sequence[Array]) -> Array:
    return S.matmul_sums(x[0], x[1], a["channels"][0], a["low"])


def _matmul_float(a: Attributes, x: Sequence[Array]) -> Array:
    return np.asarray(_matmul(a, x).astype(np.float32) * x[2].reshape(()) + x[3], np.float32)


def _maxpool(a: Attributes, x: Sequence[Array]) -> tuple[Array, ...]:
    return (S.pooled_bits(x[0], a["channels"][0], geometry_of(a)),)


def _layer(
    name: str, sums: Callable[[Attributes, Sequence[Array]], Array], axis: int, kinds: Sequence[str]
) -> dict[str, Compute]:
    """The operators of a layer with a constant weight, whose sums have their channels on `axis`."""

    def floats(x: Sequence[Array], z: Array, last: bool) -> Array:
        return float_output(np.moveaxis(z, axis, -1) if last else z, Epilogue(*x[2:8]), -1 if last else axis)

    def output(kind: str) -> Compute:
        last = kind.endswith(_LAST)
        channel_axis = -1 if last else axis
        kind = kind.removesuffix(_LAST)

        def run(a: Attributes, x: Sequence[Array]) -> tuple[Array, ...]:
            z = sums(a, x)
            if kind == "Integer":
                return (z,)
            if kind == "Bits":
                return (bits_output(z, x[2], axis),)
            v = floats(x, z, last)
            return (v,) if kind == "Float" else (v, next_bits(v, x[8], channel_axis))

        return run

    return {name + kind: output(kind) for kind in kinds}


_KINDS = ("Integer", "Bits", "Float", "FloatBits")
_LASTS = ("FloatLast", "FloatBitsLast")

OPERATORS: dict[str, Compute] = {
    "Pack": _pack,
    "Unpack": _unpack,
    **_layer("BinaryConv", _conv, 1, (*_KINDS, *_LASTS)),
    **_layer("BinaryDense", _dense, -1, _KINDS),
    **_layer("BinaryConvTranspose", _transposed, 1, ("Integer", "Bits", "Float")),
    "BinaryMatMulInteger": lambda a, x: (_matmul(a, x),),
    "BinaryMatMulFloat": lambda a, x: (_matmul_float(a, x),),
    "BinaryMatMulBits": lambda a, x: (B.pack_bits(_matmul_float(a, x) >= x[4].reshape(())),),
    "BinaryMaxPool": _maxpool,
}
"""Every operator of the domain, and how its outputs follow from its attributes and inputs."""

"""The operators of docs/runtime.md as model-local ONNX functions made of standard operators.

A file that carries them runs, with the same numbers, in every runtime that knows functions and opset 18.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from onnx import FunctionProto

from bnnapps.export.runtime.functions import activations, layers
from bnnapps.export.runtime.functions.body import DOMAIN, OPSET, VERSION

__all__ = ["DOMAIN", "OPSET", "OP_TYPES", "VERSION", "function", "functions"]

_MAKERS: dict[str, Callable[[], FunctionProto]] = {
    "Pack": activations.pack,
    "Unpack": activations.unpack,
    **{f"BinaryConv{kind}": partial(layers.conv, kind) for kind in layers.CONV_KINDS},
    **{f"BinaryDense{kind}": partial(layers.dense, kind) for kind in layers.DENSE_KINDS},
    **{f"BinaryMatMul{kind}": partial(activations.matmul, kind) for kind in activations.MATMUL_KINDS},
    "BinaryMaxPool": activations.max_pool,
    **{f"BinaryConvTranspose{kind}": partial(layers.transposed, kind) for kind in layers.TRANSPOSED_KINDS},
}

OP_TYPES = tuple(_MAKERS)


def function(op_type: str, opset: int = OPSET) -> FunctionProto:
    """The body of one operator of the domain; an unknown name raises KeyError.

    `opset` is that of the model, 18 or newer: a function has to agree with its model about the operators that changed
    between two opsets. Those of the bodies changed in nothing that the bodies use.
    """
    if opset < OPSET:
        raise ValueError(f"the functions of {DOMAIN} need opset {OPSET}, not {opset}")
    body = _MAKERS[op_type]()
    body.opset_import[0].version = opset
    return body


def functions(op_types: Iterable[str], opset: int = OPSET) -> list[FunctionProto]:
    """The bodies of these operators, each once, in the order of the specification."""
    wanted = set(op_types)
    unknown = wanted - set(OP_TYPES)
    if unknown:
        raise KeyError(f"no such operator in {DOMAIN} version {VERSION}: {', '.join(sorted(unknown))}")
    return [function(op_type, opset) for op_type in OP_TYPES if op_type in wanted]

"""What a node on bits becomes in C: arrays and initializers of the structs of `bnn.h`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from bnnapps.errors import ExportError
from bnnapps.export.emit import text
from bnnapps.export.inspection import attributes_of, has_weight

Array = npt.NDArray[Any]
Constants = Mapping[str, Array]

_STEPS = {"scale": 1.0, "bias": 0.0, "residual": 0.0, "before": 0.0, "slope": 1.0, "after": 0.0}
"""The inputs of a float epilogue behind the weight, and the constant that leaves each out."""

KINDS = {"BinaryConv": "conv", "BinaryConvTranspose": "transposed", "BinaryDense": "dense"}


def kind_of(node: NodeProto) -> str | None:
    """Which kind of layer a node is: "conv", "transposed" or "dense", or `None` for any other node."""
    if not has_weight(node):
        return None
    return KINDS[max((prefix for prefix in KINDS if node.op_type.startswith(prefix)), key=len)]


def output_of(node: NodeProto) -> str:
    """The bnn_output of a layer: what its sums become."""
    rest = node.op_type[max(len(prefix) for prefix in KINDS if node.op_type.startswith(prefix)) :]
    return {"Integer": "BNN_INT32", "Bits": "BNN_BITS"}.get(rest, "BNN_FLOAT32")


def layer(node: NodeProto, name: str, constants: Constants) -> str:
    """All definitions of a layer.

    Args:
        node: a layer with a constant weight.
        name: what the names of its definitions begin with.
        constants: the constants of the file, by name.

    Raises:
        ExportError: a parameter of the layer is not constant, or has a form that `bnn.h` does not know.

    """
    weight = _constant(node, 1, constants)
    return "".join((text.array(f"{name}_weight", weight), _shape(node, name, weight), _epilogue(node, name, constants)))


def thresholds(node: NodeProto, name: str, constants: Constants) -> str:
    """The thresholds of a node that packs floats into bits."""
    return text.array(f"{name}_threshold", _constant(node, 1, constants))


def pool(node: NodeProto, name: str) -> str:
    """The shape of a max-pooling."""
    a = attributes_of(node)
    fields = [len(a["kernel_shape"]), a["channels"][0], *_window(a)]
    return f"static const bnn_pool_shape {name}_shape = {text.braces(fields)};\n"


def _constant(node: NodeProto, index: int, constants: Constants) -> Array:
    name = node.input[index] if index < len(node.input) else ""
    if name not in constants:
        raise ExportError(
            f"input {index} of the node '{node.name}' ({node.op_type}) is no constant: it has no form in C"
        )
    return constants[name]


def _three(values: Any, missing: int) -> str:
    return text.braces([*values, *[missing] * (3 - len(values))])


def _window(a: Mapping[str, Any]) -> list[str]:
    rank = len(a["kernel_shape"])
    ones = [_three(a[name], 1) for name in ("kernel_shape", "strides", "dilations")]
    return [*ones, _three(a["pads"][:rank], 0), _three(a["pads"][rank:], 0)]


def _shape(node: NodeProto, name: str, weight: Array) -> str:
    a, kind = attributes_of(node), kind_of(node)
    codes = "BNN_SIGNED" if a["low"] else "BNN_UNSIGNED"
    if kind == "dense":
        return f"enum {{ {name}_terms = {a['channels'][0]}, {name}_outputs = {weight.shape[0]} }};\n" + (
            f"static const bnn_codes {name}_codes = {codes};\n"
        )
    rank, channels = len(a["kernel_shape"]), a["channels"][0]
    if kind == "transposed":
        fields = [rank, channels, a["outputs"][0], a["group"], *_window(a), _three(a["output_padding"], 0), codes]
        return f"static const bnn_transposed_shape {name}_shape = {text.braces(fields)};\n"
    fields = [rank, channels, weight.shape[0], a["group"], *_window(a), int(a["pad_value"]), codes]
    return f"static const bnn_conv_shape {name}_shape = {text.braces(fields)};\n"


def _epilogue(node: NodeProto, name: str, constants: Constants) -> str:
    output = output_of(node)
    last = node.op_type.endswith("Last") or kind_of(node) == "dense"
    layout = "BNN_CHANNELS_LAST" if last else "BNN_CHANNELS_FIRST"
    arrays: dict[str, Array] = {}
    if output == "BNN_BITS":
        arrays["threshold"] = _constant(node, 2, constants)
    elif output == "BNN_FLOAT32":
        for index, (step, neutral) in enumerate(_STEPS.items(), start=2):
            if step == "residual":
                _check_residual(node, index, constants)
                continue
            values = _constant(node, index, constants)
            if values.size != 1 or values.reshape(-1)[0] != neutral:
                arrays[step] = values
        if "FloatBits" in node.op_type:
            arrays["next"] = _constant(node, 8, constants)
    definitions = "".join(text.array(f"{name}_{step}", values) for step, values in arrays.items())
    steps = ("scale", "bias", "before", "slope", "after", "next")
    pointers = [f"{name}_{step}" if step in arrays else "NULL" for step in ("threshold", *steps)]
    counts = [arrays[step].size if step in arrays else 0 for step in steps]
    fields = [output, layout, "NULL", *pointers, *counts, "NULL", "NULL"]
    return f"{definitions}static const bnn_epilogue {name}_epilogue = {text.braces(fields)};\n"


def _check_residual(node: NodeProto, index: int, constants: Constants) -> None:
    """A residual is a tensor that the caller has; the constant 0 stands for none."""
    constant = constants.get(node.input[index])
    if constant is not None and np.any(constant != 0):
        raise ExportError(f"the residual of the node '{node.name}' ({node.op_type}) is a constant: it has no form in C")

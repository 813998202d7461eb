"""What an ONNX file holds: which nodes run on bits, and what its weights take."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from bnnapps.errors import ExportError
from bnnapps.export.file import metadata_of, packed_version, read_model
from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.passes.metadata import DIALECT, VERSION

FLOAT_BYTES = 4

_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""The operators of ONNX whose second input is a weight."""


@dataclass(frozen=True)
class NodeRow:
    """One node of the main graph.

    Attributes:
        name, operator: of the node; operators on bits have their domain in front.
        bits: whether it runs on bits.
        shape: of its first output, with names for free sizes; `None` where it is not known.
        constant_bytes: what its constants take in the file. A constant of several nodes counts at the first.
        one_bit_weights: how many of its weights are +1 or -1 and nothing else.
        one_bit_bytes: what these take in the file.

    """

    name: str
    operator: str
    bits: bool
    shape: tuple[int | str, ...] | None
    constant_bytes: int
    one_bit_weights: int
    one_bit_bytes: int


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    Attributes:
        path: the file.
        dialect: as the file says, or "foreign".
        written_by: the version of bnnapps, or `None`.
        opset: the version of ONNX's operators.
        packed_version: the version of the operators on bits, 0 where there are none.
        file_bytes: the size of the file.
        function_bytes: the bodies of the operators on bits.
        nodes: the nodes in order; constants are none.

    """

    path: Path
    dialect: str
    written_by: str | None
    opset: int
    packed_version: int
    file_bytes: int
    function_bytes: int
    nodes: tuple[NodeRow, ...]

    @property
    def one_bit_weights(self) -> int:
        """How many weights are +1 or -1."""
        return sum(node.one_bit_weights for node in self.nodes)

    @property
    def one_bit_bytes(self) -> int:
        """What these weights take in the file."""
        return sum(node.one_bit_bytes for node in self.nodes)

    @property
    def other_constant_bytes(self) -> int:
        """What all other constants take."""
        return sum(node.constant_bytes for node in self.nodes) - self.one_bit_bytes

    @property
    def float_bytes(self) -> int:
        """What the 1-bit weights would take as float32."""
        return FLOAT_BYTES * self.one_bit_weights

    @property
    def ratio(self) -> float | None:
        """How many times smaller they are than that."""
        return self.float_bytes / self.one_bit_bytes if self.one_bit_bytes else None

    @property
    def real(self) -> dict[str, int]:
        """The nodes that stay real: how many of each operator, most frequent first."""
        return dict(Counter(node.operator for node in self.nodes if not node.bits).most_common())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "file": str(self.path),
            "dialect": self.dialect,
            "written_by": self.written_by,
            "opset": self.opset,
            "packed_version": self.packed_version,
            "nodes": [asdict(n) | {"shape": None if n.shape is None else list(n.shape)} for n in self.nodes],
            "totals": {
                "file_bytes": self.file_bytes,
                "one_bit_weights": self.one_bit_weights,
                "one_bit_bytes": self.one_bit_bytes,
                "float_bytes": self.float_bytes,
                "ratio": self.ratio,
                "other_constant_bytes": self.other_constant_bytes,
                "function_bytes": self.function_bytes,
                "nodes_on_bits": sum(n.bits for n in self.nodes),
                "nodes_real": sum(not n.bits for n in self.nodes),
                "real": self.real,
            },
        }


def inspect_model(path: str | os.PathLike[str]) -> Inspection:
    """Look into a file: a packed or portable one, or any other ONNX file.

    Raises:
        ExportError: the file is missing, damaged, no ONNX file, or was written by a newer version.

    """
    model = read_model(path)
    said = metadata_of(model)
    return Inspection(
        path=Path(path),
        dialect=said.get(DIALECT, "foreign"),
        written_by=said.get(VERSION),
        opset=next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0),
        packed_version=packed_version(model),
        file_bytes=Path(path).stat().st_size,
        function_bytes=sum(function.ByteSize() for function in model.functions),
        nodes=tuple(_rows(model)),
    )


def weight_count(node: NodeProto, stored: tuple[int, ...]) -> int:
    """How many weights of one bit a packed weight holds: the last byte of a row may have unused bits.

    Args:
        node: an operator on bits with a constant weight.
        stored: the shape of the weight in the file: rows, bytes of a row.

    """
    a = attributes_of(node)
    taps = math.prod(a.get("kernel_shape", ()))
    if node.op_type.startswith("BinaryConvTranspose"):
        return int(stored[0] * a["outputs"][0] // a["group"] * taps)
    return int(stored[0] * a["channels"][0] // a.get("group", 1) * taps)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def has_weight(node: NodeProto) -> bool:
    """Whether a node is an operator on bits with a constant weight."""
    return bool(node.domain == DOMAIN and node.op_type.startswith(("BinaryConv", "BinaryDense")))


def _rows(model: ModelProto) -> Iterator[NodeRow]:
    constants = _constants(model)
    shapes = _shapes(model)
    seen: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            continue
        fresh = [name for name in dict.fromkeys(node.input) if name in constants and name not in seen]
        seen.update(fresh)
        try:
            count, stored = _one_bit(node, constants, fresh)
            taken = sum(_bytes(constants[name]) for name in fresh)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            raise ExportError(
                f"the node '{node.name}' ({node.op_type}) has attributes or constants that do not fit it: "
                "export the model again"
            ) from None
        yield NodeRow(
            name=node.name,
            operator=f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type,
            bits=node.domain == DOMAIN,
            shape=shapes.get(node.output[0]) if node.output else None,
            constant_bytes=taken,
            one_bit_weights=count,
            one_bit_bytes=stored,
        )


def _one_bit(node: NodeProto, constants: Mapping[str, TensorProto], fresh: list[str]) -> tuple[int, int]:
    """How many 1-bit weights a node brings along, and the bytes that they take."""
    weight = node.input[1] if len(node.input) > 1 and (has_weight(node) or node.op_type in _PRODUCTS) else ""
    if node.op_type == "Gather" and node.input[0] in fresh:  # the table of a binary embedding
        weight = node.input[0]
    if weight not in fresh:
        return 0, 0
    tensor = constants[weight]
    if has_weight(node):
        return weight_count(node, tuple(tensor.dims)), _bytes(tensor)
    if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type not in (TensorProto.FLOAT, TensorProto.INT8):
        return 0, 0
    values = numpy_helper.to_array(tensor)
    return (values.size, _bytes(tensor)) if values.size and bool((np.abs(values) == 1).all()) else (0, 0)


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        value = next((one.t for one in node.attribute if one.name == "value" and one.type == one.TENSOR), None)
        if node.op_type == "Constant" and value is not None:
            found[node.output[0]] = value
    return found


def _bytes(tensor: TensorProto) -> int:
    if tensor.data_type == TensorProto.STRING:
        return sum(len(text) for text in tensor.string_data)
    bits = 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4):
        bits = 4
    return int(-(-math.prod(tensor.dims) * bits // 8))


def _shapes(model: ModelProto) -> dict[str, tuple[int | str, ...]]:
    """The shapes that the file states, and those that follow from them."""
    found = {}
    for value in (*_inferred(model), *model.graph.value_info, *model.graph.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            sizes = value.type.tensor_type.shape.dim
            found[value.name] = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in sizes)
    return found


def _inferred(model: ModelProto) -> Sequence[onnx.ValueInfoProto]:
    if model.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF:
        return ()
    try:
        return tuple(onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info)
    except onnx.shape_inference.InferenceError:
        return ()

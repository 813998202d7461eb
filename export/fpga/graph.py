"""An ONNX graph as the reader walks it: who makes a value, who takes it, what is constant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bnnapps.errors import ExportError
from bnnapps.export.fpga.layers import Array
from bnnapps.export.ir.epilogue import Epilogue, float_output
from bnnapps.export.ir.interpret import attributes_of
from bnnapps.export.ir.operators import DOMAIN

SAME_BY_ELEMENT = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Clip",
        "Relu",
        "PRelu",
        "LeakyRelu",
        "BatchNormalization",
        "Identity",
        "Cast",
        "Floor",
        "Round",
        "HardSwish",
        "Max",
        "Min",
        "Where",
        "GreaterOrEqual",
        "Neg",
        "Abs",
    ]
)
"""Operators that keep a map's shape and compute each element by itself, given constants for their other inputs."""


class Chain:
    """The one path of values from a graph's input to its output.

    Raises:
        ExportError: the graph branches, joins, or has several inputs or outputs.

    """

    def __init__(self, model: ModelProto, source: str) -> None:
        self.model, self.source = model, source
        graph = model.graph
        self.constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise ExportError(f"{source}: the FPGA flow takes networks with one input and one output")
        self.input = inputs[0].name
        self.nodes = self._ordered(graph.output[0].name)

    def _ordered(self, last: str) -> list[NodeProto]:
        """The nodes in order, each fed by the one before and by constants alone."""
        live = [node for node in self.model.graph.node if node.op_type != "Constant"]
        makers = {name: node for node in live for name in node.output}
        found: list[NodeProto] = []
        value = last
        while value != self.input:
            node = makers[value]
            fed = [name for name in node.input if name and name not in self.constants]
            if len(set(fed)) != 1:
                raise ExportError(
                    f"{self.source}: node '{node.name}' ({node.op_type}) joins {len(set(fed))} values; the FPGA flow "
                    "takes plain chains of layers: remove shortcuts and branches"
                )
            found.append(node)
            value = fed[0]
        return found[::-1]

    def input_shape(self) -> tuple[int, ...]:
        """The sizes of one input, without the batch."""
        value = next(v for v in self.model.graph.input if v.name == self.input)
        sizes = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
        if not sizes or not all(sizes):
            raise ExportError(f"{self.source}: the input '{self.input}' has sizes that are not fixed: export it again")
        return tuple(sizes)

    def constant(self, node: NodeProto, position: int) -> Array:
        """A constant input of a node."""
        return self.constants[node.input[position]]


def elementwise(node: NodeProto) -> bool:
    """Whether every element of the result comes from the same element of the input."""
    return node.op_type in SAME_BY_ELEMENT and node.domain in ("", "ai.onnx")


def apply(chain: Chain, nodes: Sequence[NodeProto], x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What a row of nodes makes of a value; an operator on bits counts as its float epilogue."""
    for node in nodes:
        x = _epilogue(chain, node, x) if node.domain == DOMAIN else _standard(chain, node, x)
    return x


def _epilogue(chain: Chain, node: NodeProto, z: Array) -> npt.NDArray[np.float32]:
    parts = [np.asarray(chain.constant(node, i), np.float32) for i in range(2, 8)]
    if parts[2].size != 1:
        raise ExportError(f"{chain.source}: layer '{node.name}' adds a map: the FPGA flow takes no shortcuts")
    axis = -1 if z.ndim == 2 else 1
    return float_output(z.astype(np.int32), Epilogue(*parts), axis)


def _standard(chain: Chain, node: NodeProto, x: Array) -> Array:
    constants = [
        numpy_helper.from_array(chain.constants[name], name)
        for name in dict.fromkeys(node.input)
        if name in chain.constants
    ]
    value = next(name for name in node.input if name and name not in chain.constants)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(value, kind, None)],
        [helper.make_empty_tensor_value_info(node.output[0])],
        constants,
    )
    opset = [one for one in chain.model.opset_import if one.domain in ("", "ai.onnx")]
    session = ReferenceEvaluator(helper.make_model(graph, opset_imports=opset, ir_version=chain.model.ir_version))
    found: Array = np.asarray(session.run([node.output[0]], {value: x})[0])
    return found


def facts(node: NodeProto) -> dict[str, Array]:
    """The attributes of a node, by name."""
    return attributes_of(node)

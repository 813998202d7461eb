"""Layout: float maps between our layers have their channels last, as the bits have, so nothing is transposed between.

A layer's own float tensors (its output and its shortcut) are turned together with those of the layers that they are
connected with; what stays channels first on either side gets one transposition.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.passes.packed.build import array_of, constant, rank_of
from bnnapps.export.passes.packed.chain import per_channel
from bnnapps.export.passes.packed.moves import bits_order

_TURNED = ("BinaryConvFloat", "BinaryConvFloatBits")
_RESIDUAL = 4


def channels_last(model: ir.Model) -> None:
    """Turn the float tensors of connected convolutions to channels last, in place."""
    layers = [node for node in model.graph if node.domain == DOMAIN and node.op_type in _TURNED]
    worthwhile = _connected(layers)
    for layer in layers:
        if layer in worthwhile:
            _turn(model.graph, layer)
    for node in list(model.graph):
        _sink(model.graph, node)
    _cancel(model.graph)
    common.RemoveUnusedNodesPass()(model)


def _connected(layers: list[ir.Node]) -> set[ir.Node]:
    """The layers whose output is another's shortcut, or which have one that is another's output."""
    found: set[ir.Node] = set()
    for layer in layers:
        residual = layer.inputs[_RESIDUAL]
        producer = None if residual is None else residual.producer()
        if producer is not None and producer in layers and rank_of(layer.outputs[0]) == rank_of(residual):
            found |= {layer, producer}
    return {layer for layer in found if rank_of(layer.outputs[0]) is not None}


def _turn(graph: ir.Graph, layer: ir.Node) -> None:
    y = layer.outputs[0]
    rank = rank_of(y)
    assert rank is not None
    to_last = [0, *range(2, rank), 1]
    layer.op_type = f"{layer.op_type}Last"
    residual = layer.inputs[_RESIDUAL]
    if residual is not None and rank_of(residual) == rank:
        node = ir.node("Transpose", [residual], attributes={"perm": to_last}, name=f"{layer.name}/shortcut")
        node.outputs[0].name, node.outputs[0].dtype = f"{layer.name}/shortcut", ir.DataType.FLOAT
        graph.insert_before(layer, node)
        layer.replace_input_with(_RESIDUAL, node.outputs[0])
    _turn_output(graph, layer, rank)


def _turn_output(graph: ir.Graph, layer: ir.Node, rank: int) -> None:
    """The first output has its channels last from now on: who reads it reads it turned back."""
    y = layer.outputs[0]
    to_last, to_first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    node = ir.node("Transpose", [y], attributes={"perm": to_first}, name=f"{layer.name}/first")
    node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, y.shape
    graph.insert_after(layer, node)
    y.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
    node.replace_input_with(0, y)
    node.outputs[0].name, y.name = y.name, f"{y.name}/last"
    y.shape = None if y.shape is None else ir.Shape([y.shape[axis] for axis in to_last])


def _sink(graph: ir.Graph, node: ir.Node) -> None:
    """Let an operator that works on each position by itself work on channels last, where all it reads was turned."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _POSITIONWISE or len(node.outputs) != 1:
        return
    y = node.outputs[0]
    rank = rank_of(y)
    if rank is None or rank < 3:
        return
    to_first = [0, rank - 1, *range(1, rank - 1)]
    fresh: list[ir.Value | None] = []
    turned = 0
    for value in node.inputs:
        source = _before_turn(value, to_first)
        if source is None and value is not None:
            source = _last_constant(graph, value, rank)
            if source is None:
                return
        else:
            turned += 1
        fresh.append(source)
    if not turned or (node.op_type == "Concat" and node.attributes["axis"].as_int() not in (1, 1 - rank)):
        return
    for place, value in enumerate(fresh):
        node.replace_input_with(place, value)
    if node.op_type == "Concat":
        node.attributes["axis"] = ir.AttrInt64("axis", rank - 1)
    _turn_output(graph, node, rank)


_POSITIONWISE = ("Add", "Sub", "Mul", "Div", "Relu", "LeakyRelu", "PRelu", "Concat")


def _before_turn(value: ir.Value | None, to_first: list[int]) -> ir.Value | None:
    """What a transposition to channels first reads."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Transpose" or list(node.attributes["perm"].as_ints()) != to_first:
        return None
    return node.inputs[0]


def _last_constant(graph: ir.Graph, value: ir.Value, rank: int) -> ir.Value | None:
    """A constant with one number, or one for each channel, for channels last."""
    array, numbers = array_of(value), per_channel(value, 1 - rank)
    if array is None or numbers is None or array.dtype != np.float32:
        return None
    return value if array.size == 1 else constant(graph, f"{value.name}/last", array.reshape(-1))


def _cancel(graph: ir.Graph) -> None:
    """Take away transpositions that undo each other, and those in front of a `Pack`."""
    for node in list(graph):
        source = node.inputs[0] if node.inputs else None
        before = None if source is None else source.producer()
        if before is None or before.op_type != "Transpose" or before.domain not in ("", "ai.onnx"):
            continue
        order = list(before.attributes["perm"].as_ints())
        if node.op_type == "Transpose" and node.domain in ("", "ai.onnx"):
            second = list(node.attributes["perm"].as_ints())
            if [order[axis] for axis in second] == sorted(order) and not node.outputs[0].is_graph_output():
                inner = before.inputs[0]
                assert inner is not None
                node.outputs[0].replace_all_uses_with(inner)
        elif node.op_type == "Pack" and node.domain == DOMAIN:
            axis, moved = bits_order(order, node.attributes["axis"].as_int())
            if moved == sorted(moved):
                node.replace_input_with(0, before.inputs[0])
                node.attributes["axis"] = ir.AttrInt64("axis", axis)

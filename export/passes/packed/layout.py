"""Layout: float maps between our layers have their channels last, as the bits have, so nothing is transposed between.

A layer's own float tensors (its output and its shortcut) are turned together with those of the layers that they are
connected with; what stays channels first on either side gets one transposition.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.passes.packed.build import rank_of
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
    to_last, to_first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    layer.op_type = f"{layer.op_type}Last"
    residual = layer.inputs[_RESIDUAL]
    if residual is not None and rank_of(residual) == rank:
        node = ir.node("Transpose", [residual], attributes={"perm": to_last}, name=f"{layer.name}/shortcut")
        node.outputs[0].name, node.outputs[0].dtype = f"{layer.name}/shortcut", ir.DataType.FLOAT
        graph.insert_before(layer, node)
        layer.replace_input_with(_RESIDUAL, node.outputs[0])
    node = ir.node("Transpose", [y], attributes={"perm": to_first}, name=f"{layer.name}/first")
    node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, y.shape
    graph.insert_after(layer, node)
    y.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
    node.replace_input_with(0, y)
    node.outputs[0].name, y.name = y.name, f"{y.name}/last"
    y.shape = None if y.shape is None else ir.Shape([y.shape[axis] for axis in to_last])


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

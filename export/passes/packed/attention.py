"""Products of two activations take in their scale, their mask and the next threshold.

v = z * scale + addend,    bits v >= threshold
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from bnnapps.export.graph.product import LONGEST
from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.passes.packed.build import array_of, constant, insert, rank_of
from bnnapps.export.passes.packed.chain import only_reader


def fuse_products(model: ir.Model) -> None:
    """Fuse what follows each BinaryMatMulInteger, in place."""
    for node in list(model.graph):
        if node.domain == DOMAIN and node.op_type == "BinaryMatMulInteger":
            _fuse(model.graph, node)
    common.RemoveUnusedNodesPass()(model)


def _fuse(graph: ir.Graph, layer: ir.Node) -> None:
    rank = rank_of(layer.outputs[0])
    cast = only_reader(layer.outputs[0])
    if rank is None or cast is None or cast.op_type != "Cast" or cast.attributes["to"].as_int() != ir.DataType.FLOAT:
        return
    value, scale, last = cast.outputs[0], 1.0, cast
    while (node := only_reader(value)) is not None and (factor := _factor(node, value)) is not None:
        value, scale, last = node.outputs[0], scale * factor, node
    node = only_reader(value)
    addend = None if node is None else _addend(graph, node, value, scale)
    if node is not None and addend is not None:
        value, last = node.outputs[0], node
    base = str(layer.name).rpartition("/")[0]
    inputs = [
        *layer.inputs,
        constant(graph, f"{base}/scale", np.array([scale], np.float32)),
        addend if addend is not None else constant(graph, "zero", np.zeros(1, np.float32)),
    ]
    kind, dtype = "Float", ir.DataType.FLOAT
    pack = only_reader(value)
    limit = None if pack is None else array_of(pack.inputs[1]) if len(pack.inputs) > 1 else None
    if (
        pack is not None
        and pack.domain == DOMAIN
        and pack.op_type == "Pack"
        and pack.attributes["axis"].as_int() == rank - 1
        and limit is not None
        and limit.size == 1
    ):
        kind, dtype, value, last = "Bits", ir.DataType.UINT8, pack.outputs[0], pack
        inputs.append(pack.inputs[1])
    node = ir.node(
        f"BinaryMatMul{kind}",
        inputs,
        attributes=dict(layer.attributes),
        domain=DOMAIN,
        name=f"{base}/BinaryMatMul{kind}",
    )
    node.outputs[0].dtype, node.outputs[0].shape = dtype, value.shape
    graph.insert_before(last, node)
    name, value.name = value.name, f"{value.name}/before"
    node.outputs[0].name = name
    value.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)


def _addend(graph: ir.Graph, node: ir.Node, value: ir.Value, scale: float) -> ir.Value | None:
    """What a node adds to the value: a tensor, or the mask of Where(mask, value, lowest) as 0 and lowest."""
    if node.domain != "":
        return None
    if node.op_type == "Add":
        other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
        return other if other is not None and _spreads_to(other, value) else None
    lowest = array_of(node.inputs[2]) if node.op_type == "Where" and node.inputs[1] is value else None
    mask = node.inputs[0]
    if lowest is None or lowest.size != 1 or mask is None or not _spreads_to(mask, value, ir.DataType.BOOL):
        return None
    number = np.float32(lowest.reshape(()))
    if -float(number) * 2.0**-26 < LONGEST * abs(scale):  # else v + lowest == lowest
        return None
    name = f"{mask.name}/addend"
    known = next((use.node for use in mask.uses() if use.node.outputs[0].name == name), None)
    if known is not None and array_of(known.inputs[2]) == number:
        return known.outputs[0]
    zero, low = constant(graph, "zero", np.zeros(1, np.float32)), constant(graph, "lowest", np.array([number]))
    fresh = ir.node("Where", [mask, zero, low], name=name)
    made = mask.producer()
    if made is None:
        return None
    addend = insert(graph, made, fresh, name, ir.DataType.FLOAT)
    addend.shape = mask.shape
    return addend


def _factor(node: ir.Node, value: ir.Value) -> float | None:
    """What a node multiplies the value with, or `None`."""
    if node.domain != "" or node.op_type not in ("Mul", "Div", "Identity"):
        return None
    if node.op_type == "Identity":
        return 1.0
    first = node.inputs[0] is value
    array = array_of(node.inputs[1] if first else node.inputs[0])
    if array is None or array.size != 1 or (node.op_type == "Div" and not first):
        return None
    number = float(array.reshape(()))
    return number if node.op_type == "Mul" else 1.0 / number


def _spreads_to(other: ir.Value, value: ir.Value, dtype: ir.DataType = ir.DataType.FLOAT) -> bool:
    """Whether a tensor broadcasts to the shape of a value, and not the other way round."""
    if other.shape is None or value.shape is None or len(other.shape) > len(value.shape):
        return False
    if other.dtype != dtype:
        return False
    sizes = list(value.shape)[len(value.shape) - len(other.shape) :]
    return all(a == 1 or a == b for a, b in zip(other.shape, sizes, strict=True))

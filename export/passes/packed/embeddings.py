"""Embeddings: a table of signs takes one bit an entry; rows are gathered as bits and unpacked."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from bnnapps.export.ir.bits import pack_bits
from bnnapps.export.ir.operators import DOMAIN, VERSION
from bnnapps.export.passes.packed.build import array_of, constant, rank_of


def pack_tables(model: ir.Model) -> None:
    """Turn Cast(Gather(signs of 8 bits)) into Unpack(Gather(bits)), in place."""
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "Gather":
            _pack(model, node)
    common.RemoveUnusedNodesPass()(model)


def _pack(model: ir.Model, gather: ir.Node) -> None:
    table, rows = array_of(gather.inputs[0]), gather.outputs[0]
    axis = gather.attributes["axis"].as_int() if "axis" in gather.attributes else 0
    rank = rank_of(rows)
    if table is None or table.dtype != np.int8 or table.ndim != 2 or axis != 0 or rank is None:
        return
    casts = [use.node for use in rows.uses()]
    if rows.is_graph_output() or not casts or not all(_is_cast(cast) for cast in casts):
        return
    if not bool((np.abs(table) == 1).all()):
        return
    graph, name = model.graph, str(gather.inputs[0].name if gather.inputs[0] is not None else gather.name)
    bits = ir.node(
        "Gather",
        [constant(graph, f"{name}/bits", pack_bits(table > 0)), gather.inputs[1]],
        attributes={"axis": 0},
        name=f"{gather.name}/bits",
    )
    attributes = {"axis": rank - 1, "channels": [table.shape[1]], "low": -1.0}
    unpacked = ir.node("Unpack", [bits.outputs[0]], attributes=attributes, domain=DOMAIN, name=f"{gather.name}/Unpack")
    bits.outputs[0].dtype, unpacked.outputs[0].dtype = ir.DataType.UINT8, ir.DataType.FLOAT
    unpacked.outputs[0].shape = rows.shape
    graph.insert_before(gather, [bits, unpacked])
    for cast in casts:
        cast.outputs[0].replace_all_uses_with(unpacked.outputs[0], replace_graph_outputs=True)
    model.graph.opset_imports[DOMAIN] = VERSION


def _is_cast(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT

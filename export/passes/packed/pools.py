"""Pools: the sign of a maximum is the largest of the signs, so a pool in front of a `Pack` moves behind it."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.passes.packed.build import array_of, insert, rank_of
from bnnapps.export.passes.packed.chain import only_reader


def pool_bits(model: ir.Model) -> None:
    """Turn Pack(MaxPool(x)) into BinaryMaxPool(Pack(x)) where nobody else reads the pool, in place."""
    for pack in list(model.graph):
        if pack.domain == DOMAIN and pack.op_type == "Pack":
            _turn(model.graph, pack)
    common.RemoveUnusedNodesPass()(model)


def _turn(graph: ir.Graph, pack: ir.Node) -> None:
    pooled = pack.inputs[0]
    pool = None if pooled is None else pooled.producer()
    if pooled is None or pool is None or pool.op_type != "MaxPool" or pool.domain != "":
        return
    x = pool.inputs[0]
    rank = rank_of(x)
    if x is None or x.shape is None or rank is None or only_reader(pooled) is None or len(pool.outputs) != 1:
        return
    channels = x.shape[1]
    plain = _int(pool, "ceil_mode") == 0 and _text(pool, "auto_pad") in ("NOTSET", "VALID")
    if pack.attributes["axis"].as_int() != 1 or not isinstance(channels, int) or not plain:
        return
    spatial = rank - 2
    threshold = pack.inputs[1]
    assert array_of(threshold) is not None
    inner = ir.node("Pack", [x, threshold], attributes={"axis": 1}, domain=DOMAIN, name=f"{pack.name}/inner")
    old = pack.outputs[0]
    bits = insert(graph, pool, inner, f"{old.name}/unpooled", ir.DataType.UINT8, before=True)
    attributes = {
        "kernel_shape": list(pool.attributes["kernel_shape"].as_ints()),
        "strides": _ints(pool, "strides", [1] * spatial),
        "dilations": _ints(pool, "dilations", [1] * spatial),
        "pads": _ints(pool, "pads", [0] * (2 * spatial)),
        "channels": [channels],
    }
    node = ir.node("BinaryMaxPool", [bits], attributes=attributes, domain=DOMAIN, name=f"{pack.name}/pool")
    name, old.name = str(old.name), f"{old.name}/before"
    fresh = insert(graph, pack, node, name, ir.DataType.UINT8, before=True)
    fresh.shape = old.shape
    old.replace_all_uses_with(fresh)


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else default


def _int(node: ir.Node, name: str) -> int:
    return node.attributes[name].as_int() if name in node.attributes else 0


def _text(node: ir.Node, name: str) -> str:
    return node.attributes[name].as_string() if name in node.attributes else "NOTSET"

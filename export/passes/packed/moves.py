"""Moves: a transposition, or a split of whole words, in front of a `Pack` is done on the bits behind it.

So the bits are made where the values are, and a layer in front can hand them out itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from bnnapps.export.ir.bits import WORD, words
from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.passes.packed.build import array_of, constant, insert, rank_of
from bnnapps.export.passes.packed.chain import only_reader


def pack_early(model: ir.Model) -> None:
    """Move every `Pack` in front of the transpositions and splits that only it reads, in place."""
    waiting = [node for node in model.graph if node.domain == DOMAIN and node.op_type == "Pack"]
    while waiting:
        pack = waiting.pop()
        moved = pack.inputs[0]
        producer = None if moved is None else moved.producer()
        if producer is None or only_reader(moved) is None or producer.domain not in ("", "ai.onnx"):
            continue
        fresh = None
        if producer.op_type == "Transpose":
            fresh = _before_transpose(model.graph, pack, producer)
        elif producer.op_type == "Reshape":
            fresh = _before_reshape(model.graph, pack, producer)
        if fresh is not None:
            model.graph.remove([pack, producer], safe=True)
            waiting.append(fresh)
    common.RemoveUnusedNodesPass()(model)


def bits_order(order: Sequence[int], axis: int) -> tuple[int, list[int]]:
    """How bits move when the values that they were made of are transposed.

    Args:
        order: of the transposition of the values.
        axis: that is packed, behind it.

    Returns:
        The axis to pack in front of the transposition, and the order of the transposition of the bits.

    """
    source = order[axis]
    rest = [place - (place > source) for at, place in enumerate(order) if at != axis]
    return source, [*rest, len(order) - 1]


def _before_transpose(graph: ir.Graph, pack: ir.Node, transpose: ir.Node) -> ir.Node | None:
    value = transpose.inputs[0]
    rank = rank_of(value)
    if value is None or rank is None:
        return None
    order = list(transpose.attributes["perm"].as_ints()) if "perm" in transpose.attributes else [*range(rank)][::-1]
    axis, moved = bits_order(order, pack.attributes["axis"].as_int())
    fresh = _pack(graph, pack, value, axis, pack.inputs[1])
    if moved == sorted(moved):
        _take_over(pack, fresh.outputs[0])
    else:
        node = ir.node("Transpose", [fresh.outputs[0]], attributes={"perm": moved}, name=f"{pack.name}/transpose")
        _put(graph, pack, node)
    return fresh


def _before_reshape(graph: ir.Graph, pack: ir.Node, reshape: ir.Node) -> ir.Node | None:
    value, made = reshape.inputs[0], pack.inputs[0]
    before, after = _last(value), _last(made)
    rank, inner_rank = rank_of(made), rank_of(value)
    threshold = array_of(pack.inputs[1])
    if None in (before, after) or rank is None or inner_rank is None or threshold is None or value is None:
        return None
    assert before is not None
    assert after is not None
    if pack.attributes["axis"].as_int() != rank - 1 or before == after or before % 32 or after % 32:
        return None
    if before > after:  # one dimension is split
        if rank != inner_rank + 1 or before % after:
            return None
        limits = np.tile(threshold, before // after) if threshold.size > 1 else threshold
    else:  # two become one
        if rank != inner_rank - 1 or after % before or threshold.size > 1:
            return None
        limits = threshold
    target = _with_last(graph, reshape, words(after) * WORD)
    if target is None:
        return None
    name = str(pack.outputs[0].name).removesuffix("/bits")
    fresh = _pack(graph, pack, value, inner_rank - 1, constant(graph, f"{name}/threshold", limits))
    attributes = {"allowzero": 0}
    _put(
        graph, pack, ir.node("Reshape", [fresh.outputs[0], target], attributes=attributes, name=f"{pack.name}/reshape")
    )
    return fresh


def _with_last(graph: ir.Graph, reshape: ir.Node, size: int) -> ir.Value | None:
    """The target shape of a Reshape with another last size."""
    target = reshape.inputs[1]
    fixed = array_of(target)
    if fixed is not None:
        return constant(graph, f"{reshape.name}/bytes", np.concatenate([fixed[:-1], [size]]).astype(np.int64))
    concat = None if target is None else target.producer()
    if concat is None or concat.op_type != "Concat":
        return None
    last = array_of(concat.inputs[-1])
    if last is None:
        return None
    ending = constant(graph, f"{reshape.name}/bytes", np.concatenate([last[:-1], [size]]).astype(np.int64))
    node = ir.node("Concat", [*concat.inputs[:-1], ending], attributes={"axis": 0}, name=f"{reshape.name}/size")
    return insert(graph, concat, node, f"{reshape.name}/size", ir.DataType.INT64)


def _pack(graph: ir.Graph, pack: ir.Node, value: ir.Value, axis: int, threshold: ir.Value | None) -> ir.Node:
    node = ir.node("Pack", [value, threshold], attributes={"axis": axis}, domain=DOMAIN, name=f"{pack.name}/early")
    node.outputs[0].name, node.outputs[0].dtype = f"{pack.outputs[0].name}/early", ir.DataType.UINT8
    graph.insert_before(pack, node)
    return node


def _put(graph: ir.Graph, pack: ir.Node, node: ir.Node) -> None:
    node.outputs[0].dtype = ir.DataType.UINT8
    graph.insert_before(pack, node)
    _take_over(pack, node.outputs[0])


def _take_over(pack: ir.Node, value: ir.Value) -> None:
    """The value takes the name and the readers of what the old `Pack` made."""
    old = pack.outputs[0]
    name, old.name = old.name, f"{old.name}/before"
    value.name, value.shape = name, old.shape
    old.replace_all_uses_with(value)


def _last(value: ir.Value | None) -> int | None:
    size = None if value is None or value.shape is None else value.shape[-1]
    return size if isinstance(size, int) else None

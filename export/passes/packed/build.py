"""Small helpers to build graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def constant(graph: ir.Graph, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """An initializer; one of the same name and content is used again, another content gets a name of its own."""
    fresh, number = name, 1
    while fresh in graph.initializers:
        known = graph.initializers[fresh]
        stored = None if known.const_value is None else known.const_value.numpy()
        if stored is not None and stored.dtype == array.dtype and np.array_equal(stored, array):
            return known
        number += 1
        fresh = f"{name}.{number}"
    value = ir.Value(name=fresh, const_value=ir.tensor(np.array(array, order="C"), name=fresh))
    value.dtype, value.shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def insert(
    graph: ir.Graph, place: ir.Node, node: ir.Node, name: str, dtype: ir.DataType, before: bool = False
) -> ir.Value:
    """Put a node with one output behind (or in front of) another; its output."""
    node.outputs[0].name, node.outputs[0].dtype = name, dtype
    if before:
        graph.insert_before(place, node)
    else:
        graph.insert_after(place, node)
    return node.outputs[0]


def rank_of(value: ir.Value | None) -> int | None:
    """The number of dimensions of a value, where it is known."""
    return None if value is None or value.shape is None else len(value.shape)


def array_of(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The content of a constant, or `None`."""
    return None if value is None or value.const_value is None else value.const_value.numpy()

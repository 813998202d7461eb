"""QONNX: one-bit quantizers and weights become `BipolarQuant`, and the barriers behind products go.

QONNX's executor runs node by node, so nothing is folded into a product; its datatypes pass no Cast.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from bnnapps.errors import ExportError
from bnnapps.export.passes.audit import Array, Expected, check_latent
from bnnapps.export.passes.packed.build import array_of, constant, insert
from bnnapps.export.passes.sites import Site
from bnnapps.export.qonnx.domain import BIPOLAR, DOMAIN, VERSION


def bipolar(model: ir.Model, sites: Iterable[Site], one_bit: Collection[str]) -> tuple[Site, ...]:
    """Rewrite a portable graph, in place.

    Where(x >= c, 1, -1) becomes BipolarQuant(x - c), Where(x >= c, 1, 0) half of one more than that, a weight of -1
    and +1 BipolarQuant(weight); all exact.

    Args:
        model: the graph.
        sites: its quantizers and products.
        one_bit: the quantizers with two codes, by site.

    Returns:
        The sites as they are now: the sums of a product are floats.

    """
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs}
    found = []
    for site in sites:
        if site.role == "product":
            product = values[site.source]
            _without_barrier(graph, product)
            _weights(graph, product)
            found.append(replace(site, result=site.source))
            continue
        if site.role == "quantizer" and site.name.split("#")[0] in one_bit:
            _quantizer(graph, values[site.result])
        found.append(site)
    model.opset_imports[DOMAIN] = VERSION
    common.RemoveUnusedNodesPass()(model)
    return tuple(found)


def audit_bipolar(model: ir.Model, sites: Iterable[Site], expected: Expected) -> None:
    """Check a QONNX graph: codes of one bit and weights of -1 and +1 come from `BipolarQuant`, no latent weight.

    Raises:
        ExportError: one of these does not hold; the layer is named.

    """
    values = {value.name: value for node in model.graph for value in node.outputs}
    for site in sites:
        base = site.name.split("#")[0]
        if site.role == "quantizer" and base in expected.one_bit and not _is_bipolar(values.get(site.result)):
            raise ExportError(f"layer '{site.name}': its codes do not come from {BIPOLAR}")
        if site.role != "product" or base not in expected.weights:
            continue
        node = values[site.source].producer()
        codes = expected.weights[base]
        stored = [_stored(value) for value in (() if node is None else node.inputs[:2])]
        if not any(one is not None and np.array_equal(one, codes) for one in stored):
            raise ExportError(f"layer '{site.name}': its weight is not in the file as the layer has it")
    check_latent(model, expected.latent)


def _without_barrier(graph: ir.Graph, product: ir.Value) -> None:
    for down in [node for node in product.consumers() if node.op_type == "Cast"]:
        for up in list(down.outputs[0].consumers()):
            up.outputs[0].replace_all_uses_with(product, replace_graph_outputs=True)
            graph.remove(up, safe=True)
        graph.remove(down, safe=True)


def _weights(graph: ir.Graph, product: ir.Value) -> None:
    node = product.producer()
    assert node is not None
    for position, operand in enumerate(node.inputs[:2]):
        codes = array_of(operand)
        if operand is None or codes is None or not np.isin(codes, (-1, 1)).all():
            continue
        quant = next((use.node for use in operand.uses() if use.node.op_type == BIPOLAR), None)
        if quant is None:  # layers may share a constant
            quant = _node(graph, operand, str(operand.name))
            value = insert(graph, graph[0], quant, f"{operand.name}/codes", ir.DataType.FLOAT, before=True)
            value.shape = operand.shape
        node.replace_input_with(position, quant.outputs[0])


def _quantizer(graph: ir.Graph, codes: ir.Value) -> None:
    where = codes.producer()
    assert where is not None
    condition = where.inputs[0]
    compare = None if condition is None else condition.producer()
    table = [array_of(value) for value in where.inputs[1:]]
    if compare is None or compare.op_type != "GreaterOrEqual" or any(one is None for one in table):
        return  # more than two levels
    low = float(np.asarray(table[1]).reshape(-1)[0])
    source, limit = compare.inputs
    assert source is not None
    name, at = str(codes.name), array_of(limit)
    if at is None or at.any():
        source = _insert(graph, where, "Sub", [source, limit], f"{name}/shifted", codes)
    quant = _node(graph, source, name)
    insert(graph, where, quant, f"{name}/signs", ir.DataType.FLOAT, before=True)
    result = quant.outputs[0]
    result.shape = codes.shape
    if low == 0:
        one, half = (constant(graph, n, np.array([v], np.float32)) for n, v in (("one", 1.0), ("half", 0.5)))
        result = _insert(graph, where, "Add", [result, one], f"{name}/raised", codes)
        result = _insert(graph, where, "Mul", [result, half], f"{name}/halved", codes)
    codes.name = f"{name}/where"
    result.name = name
    codes.replace_all_uses_with(result, replace_graph_outputs=True)


def _insert(
    graph: ir.Graph, place: ir.Node, op_type: str, inputs: list[ir.Value | None], name: str, like: ir.Value
) -> ir.Value:
    node = ir.node(op_type, inputs, name=name)
    value = insert(graph, place, node, name, ir.DataType.FLOAT, before=True)
    value.shape = like.shape
    return value


def _node(graph: ir.Graph, source: ir.Value, name: str) -> ir.Node:
    scale = constant(graph, "unit_scale", np.ones(1, np.float32))
    return ir.node(BIPOLAR, [source, scale], domain=DOMAIN, name=f"{name}/{BIPOLAR}")


def _is_bipolar(value: ir.Value | None) -> bool:
    """Whether codes come from `BipolarQuant`, or from half of one more than it."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in ("Mul", "Add"):
        source = node.inputs[0]
        node = None if source is None else source.producer()
    return node is not None and node.op_type == BIPOLAR


def _stored(value: ir.Value | None) -> Array | None:
    """The constant that an operand is, or that it quantizes."""
    node = None if value is None else value.producer()
    return array_of(value if node is None or node.op_type != BIPOLAR else node.inputs[0])

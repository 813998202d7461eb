"""Epilogues: scale, bias, BatchNorm, shortcut and PReLU behind exact sums become part of the layer.

    v = z * scale + bias + residual + before;  v *= slope where v < 0;  v += after

Constant factors and summands that follow each other are put together in float64 and rounded once, so a real value may
differ in its last bit from the network's; bits that hang on it alone are held to a tolerance by the parity check.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.passes.packed.build import array_of, constant, rank_of
from bnnapps.export.passes.packed.chain import only_reader, per_channel

Doubles = npt.NDArray[np.float64]

_LAYERS = {"BinaryConvInteger": 1, "BinaryConvTransposeInteger": 1, "BinaryDenseInteger": -1}


def fuse_epilogues(model: ir.Model) -> None:
    """Let layers hand out floats where their sums are read once, and take in what follows, in place."""
    for node in list(model.graph):
        if node.domain == DOMAIN and node.op_type in _LAYERS:
            _fuse(model.graph, node)
    common.RemoveUnusedNodesPass()(model)


def fuse_next_bits(model: ir.Model) -> None:
    """Let a layer that hands out floats also hand out their bits, where a `Pack` reads them, in place."""
    for node in list(model.graph):
        if node.domain == DOMAIN and node.op_type in ("BinaryConvFloat", "BinaryDenseFloat"):
            _fuse_next(model.graph, node)
    common.RemoveUnusedNodesPass()(model)


@dataclass
class _Steps:
    """What was taken in so far, and the value that it makes."""

    value: ir.Value
    scale: Doubles = field(default_factory=lambda: np.ones(1))
    bias: Doubles = field(default_factory=lambda: np.zeros(1))
    residual: ir.Value | None = None
    before: Doubles = field(default_factory=lambda: np.zeros(1))
    slope: Doubles | None = None
    after: Doubles = field(default_factory=lambda: np.zeros(1))
    taken: list[ir.Node] = field(default_factory=list)


def _fuse(graph: ir.Graph, layer: ir.Node) -> None:
    integers = layer.outputs[0]
    rank = rank_of(integers)
    cast = only_reader(integers)
    if rank is None or cast is None or cast.op_type != "Cast" or cast.attributes["to"].as_int() != ir.DataType.FLOAT:
        return
    axis = 1 - rank if _LAYERS[layer.op_type] == 1 else -1
    steps = _Steps(cast.outputs[0], taken=[cast])
    while (node := only_reader(steps.value)) is not None and _take(steps, node, axis):
        steps.taken.append(node)
        steps.value = node.outputs[0]
    _replace(graph, layer, steps)


def _take(steps: _Steps, node: ir.Node, axis: int) -> bool:
    """Take one node in, if it fits behind what is there."""
    if node.domain not in ("", "ai.onnx"):
        return False
    affine = _affine(node, steps.value, axis)
    plain = steps.slope is None and steps.residual is None and not steps.before.any()
    if affine is not None and plain:
        factor, summand = affine
        steps.scale, steps.bias = steps.scale * factor, steps.bias * factor + summand
        return True
    if affine is not None and (affine[0] == 1).all():
        if steps.slope is None:
            steps.before = steps.before + affine[1]
        else:
            steps.after = steps.after + affine[1]
        return True
    if steps.slope is None:
        steps.slope = _slope(node, steps.value, axis)
        if steps.slope is not None:
            return True
    if node.op_type == "Add" and plain:
        other = node.inputs[1] if node.inputs[0] is steps.value else node.inputs[0]
        if other is not None and other is not steps.value and _same_shape(other, steps.value):
            steps.residual = other
            return True
    return False


def _affine(node: ir.Node, value: ir.Value, axis: int) -> tuple[Doubles, Doubles] | None:
    """Factor and summand of a node that scales and shifts each channel, or `None`."""
    one, zero = np.ones(1), np.zeros(1)
    if node.op_type == "Identity":
        return one, zero
    if node.op_type == "BatchNormalization":
        factors = [per_channel(v, -1) for v in node.inputs[1:5]]
        if any(factor is None for factor in factors) or axis != 1 - (rank_of(node.inputs[0]) or 0):
            return None
        weight, bias, mean, variance = (factor.double().numpy() for factor in factors if factor is not None)
        eps = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        factor = weight / np.sqrt(variance + eps)
        return factor, bias - mean * factor
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    first = node.inputs[0] is value
    found = per_channel(node.inputs[1] if first else node.inputs[0], axis)
    if found is None or (not first and node.op_type in ("Sub", "Div")):
        return None
    number = found.double().numpy()
    if node.op_type in ("Add", "Sub"):
        return one, number if node.op_type == "Add" else -number
    return (number if node.op_type == "Mul" else 1.0 / number), zero


def _slope(node: ir.Node, value: ir.Value, axis: int) -> Doubles | None:
    if node.inputs[0] is not value:
        return None
    if node.op_type == "Relu":
        return np.zeros(1)
    if node.op_type == "LeakyRelu":
        return np.array([node.attributes["alpha"].as_float() if "alpha" in node.attributes else 0.01])
    if node.op_type == "PRelu":
        found = per_channel(node.inputs[1], axis)
        return None if found is None else found.double().numpy()
    return None


def _same_shape(a: ir.Value, b: ir.Value) -> bool:
    if a.shape is None or b.shape is None or a.dtype not in (None, ir.DataType.FLOAT):
        return False
    return list(a.shape) == list(b.shape)


def _replace(graph: ir.Graph, layer: ir.Node, steps: _Steps) -> None:
    base = str(layer.name).rpartition("/")[0]

    def stored(name: str, values: Doubles) -> ir.Value:
        if (values == values.flat[0]).all():
            values = values[:1]
        return constant(graph, name, values.astype(np.float32))

    residual = steps.residual
    inputs = [
        *layer.inputs[:2],
        stored(f"{base}/scale", steps.scale),
        stored(f"{base}/bias", steps.bias),
        residual if residual is not None else constant(graph, "zero", np.zeros(1, np.float32)),
        stored(f"{base}/before", steps.before),
        stored(f"{base}/slope", np.ones(1) if steps.slope is None else steps.slope),
        stored(f"{base}/after", steps.after),
    ]
    node = ir.node(
        layer.op_type.replace("Integer", "Float"),
        inputs,
        attributes=dict(layer.attributes),
        domain=DOMAIN,
        name=str(layer.name).replace("Integer", "Float"),
    )
    old = steps.value
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = old.name, ir.DataType.FLOAT, old.shape
    old.name = f"{old.name}/before"
    graph.insert_before(steps.taken[-1], node)
    old.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)


def _fuse_next(graph: ir.Graph, layer: ir.Node) -> None:
    y = layer.outputs[0]
    rank = rank_of(y)
    packs = [use.node for use in y.uses() if use.node.domain == DOMAIN and use.node.op_type == "Pack"]
    axis = 1 if layer.op_type == "BinaryConvFloat" else (rank or 0) - 1
    packs = [
        pack for pack in packs if pack.attributes["axis"].as_int() == axis and array_of(pack.inputs[1]) is not None
    ]
    if rank is None or not packs:
        return
    node = ir.node(
        f"{layer.op_type}Bits",
        [*layer.inputs, packs[0].inputs[1]],
        attributes=dict(layer.attributes),
        domain=DOMAIN,
        num_outputs=2,
        name=f"{layer.name}Bits",
    )
    graph.insert_before(layer, node)
    kinds = (ir.DataType.FLOAT, ir.DataType.UINT8)
    for old, new, dtype in zip((y, packs[0].outputs[0]), node.outputs, kinds, strict=True):
        new.name, new.dtype, new.shape = old.name, dtype, old.shape
        old.name = f"{old.name}/before"
        old.replace_all_uses_with(new, replace_graph_outputs=True)

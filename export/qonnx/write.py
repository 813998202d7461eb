"""A network as hardware computes it, written as QONNX for one importer.

Every layer is a product of codes, an integer threshold and a `BipolarQuant`; a BatchNorm of either sign is in
thresholds and weights already, so no importer has to merge one. Sums are integers, and no threshold is one of them
within rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from onnx import ModelProto, NodeProto, StringStringEntryProto, TensorAnnotation, TensorProto, helper, numpy_helper

from bnnapps.errors import ExportError
from bnnapps.export.fpga.layers import Array, Conv, Dense, Integers, Layer, Network, Pool
from bnnapps.export.qonnx.domain import BIPOLAR, DOMAIN, QUANT, VERSION

Target = Literal["finn", "hls4ml"]
TARGETS: tuple[Target, ...] = ("finn", "hls4ml")

OPSET = 13
"""What all readers of QONNX take."""

IR_VERSION = 8

INPUT, OUTPUT = "input", "scores"


@dataclass
class _Graph:
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def constant(self, name: str, array: Array) -> str:
        if not any(one.name == name for one in self.constants):
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op_type: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        name = f"{output}/{op_type}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, domain=domain, **attributes))
        return output


def write(network: Network, head: tuple[Array, Array], target: Target) -> ModelProto:
    """The file.

    It takes codes, annotated as BIPOLAR or INT8, one input at a time, and gives `head[0]` * sums + `head[1]`.

    Args:
        network: the hardware form.
        head: factor and summand of the scores, each of shape (1,) or (classes,).
        target: who reads it. "finn": weights through BipolarQuant, thresholds subtracted. "hls4ml": weights as Quant of
            two bits, because hls4ml 1.3.0 makes those of a BipolarQuant behind two layers all ones; thresholds as
            BatchNormalization, because it reads no Sub behind a convolution.

    Raises:
        ExportError: a border of codes, which neither reader keeps, or scores of a factor each, which FINN does not
            absorb; the layer is named.

    """
    if target == "finn" and any(part.size > 1 for part in head):
        raise ExportError(
            f"layer '{network.layers[-1].name}' scales each class by itself, which FINN leaves in floating point: use "
            "one scale and norm for all scores, as the models tfc and cnv do (TensorNorm)"
        )
    graph = _Graph()
    value, shape = INPUT, network.input.shape
    for layer in network.layers:
        value, shape = _layer(graph, layer, value, shape, target)
    for op_type, part, name in (("Mul", head[0], "factor"), ("Add", head[1], "summand")):
        value = graph.add(op_type, [value, graph.constant(name, part.astype(np.float32))], f"scores/{name}")
    graph.nodes[-1].output[0] = OUTPUT
    return _model(network, graph)


def _layer(
    graph: _Graph, layer: Layer, value: str, shape: tuple[int, ...], target: Target
) -> tuple[str, tuple[int, ...]]:
    if isinstance(layer, Pool):
        sizes: dict[str, Any] = {"kernel_shape": layer.window, "strides": layer.window, "pads": (0, 0, 0, 0)}
        return graph.add("MaxPool", [value], f"{layer.name}/pooled", **sizes), (layer.channels, *layer.out_size)
    if isinstance(layer, Conv):
        return _conv(graph, layer, value, target)
    weight: Array = layer.weight
    if len(shape) == 3:
        channels, rows, columns = shape
        streamed = weight.reshape(layer.outputs, rows, columns, channels)
        weight = np.moveaxis(streamed, -1, 1).reshape(layer.outputs, -1)
        value = graph.add("Flatten", [value], f"{layer.name}/flat", axis=1)
    codes = _weight(graph, layer.name, weight.T, target)
    value = graph.add("MatMul", [value, codes], f"{layer.name}/sums")
    if layer.threshold is not None:
        value = _compared(graph, layer, layer.threshold, value, target)
    return value, (layer.outputs,)


def _conv(graph: _Graph, layer: Conv, value: str, target: Target) -> tuple[str, tuple[int, ...]]:
    if any(layer.pads) and (layer.bits == 1 or layer.pad_value != 0):
        raise ExportError(
            f"layer '{layer.name}' has a border of {layer.pad_value:+d} around its map of codes; {target} keeps none "
            "but zeros around integers: use convolutions without padding, as the model cnv does"
        )
    sizes: dict[str, Any] = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.pads}
    sizes |= {"dilations": (1, 1), "group": 1}
    codes = _weight(graph, layer.name, np.moveaxis(layer.weight, -1, 1), target)
    value = graph.add("Conv", [value, codes], f"{layer.name}/sums", **sizes)
    return _compared(graph, layer, layer.threshold, value, target), (layer.outputs, *layer.out_size)


def _weight(graph: _Graph, layer: str, codes: Array, target: Target) -> str:
    stored = graph.constant(f"{layer}/weight", codes.astype(np.float32))
    scale = graph.constant("unit_scale", np.ones(1, np.float32))
    if target == "finn":
        return graph.add(BIPOLAR, [stored, scale], f"{layer}/codes", DOMAIN)
    zero = graph.constant("zero_point", np.zeros(1, np.float32))
    bits = graph.constant("two_bits", np.full(1, 2, np.float32))
    kind: dict[str, Any] = {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
    return graph.add(QUANT, [stored, scale, zero, bits], f"{layer}/codes", DOMAIN, **kind)


def _compared(graph: _Graph, layer: Dense | Conv, threshold: Integers, value: str, target: Target) -> str:
    """The bits z >= threshold. Between two integers there is room for half of one."""
    most = layer.terms * (1 if layer.bits == 1 else 128) + 1
    limit = np.clip(threshold, -most, most).astype(np.float32)
    if target == "finn":
        shape = (1, -1, 1, 1) if isinstance(layer, Conv) else (1, -1)
        shifted = graph.constant(f"{layer.name}/threshold", limit.reshape(shape))
        value = graph.add("Sub", [value, shifted], f"{layer.name}/shifted")
    else:
        one, zero = np.ones_like(limit), np.zeros_like(limit)
        parts = (("weight", one), ("bias", zero), ("mean", limit - 0.5), ("variance", one))
        inputs = [graph.constant(f"{layer.name}/norm_{name}", part) for name, part in parts]
        value = graph.add("BatchNormalization", [value, *inputs], f"{layer.name}/shifted", epsilon=0.0)
    scale = graph.constant("unit_scale", np.ones(1, np.float32))
    return graph.add(BIPOLAR, [value, scale], f"{layer.name}/bits", DOMAIN)


def _model(network: Network, graph: _Graph) -> ModelProto:
    shapes = ((INPUT, (1, *network.input.shape)), (OUTPUT, (1, network.head.classes)))
    source, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    made = helper.make_graph(graph.nodes, network.name, [source], [result], graph.constants)
    kind = StringStringEntryProto(key="finn_datatype", value="BIPOLAR" if network.input.bits == 1 else "INT8")
    made.quantization_annotation.append(TensorAnnotation(tensor_name=INPUT, quant_parameter_tensor_names=[kind]))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION)

"""QONNX's operators of one bit, for runtimes that do not know them."""

from __future__ import annotations

from onnx import FunctionProto, ModelProto, helper

DOMAIN = "qonnx.custom_op.general"
VERSION = 1
BIPOLAR = "BipolarQuant"
QUANT = "Quant"


def bodies(model: ModelProto) -> list[FunctionProto]:
    """The bodies of those operators of the domain that a file uses."""
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    used = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    makers = {BIPOLAR: bipolar_function, QUANT: quant_function}
    return [maker(opset) for name, maker in makers.items() if name in used]


def bipolar_function(opset: int) -> FunctionProto:
    """y = scale where x >= 0, -scale elsewhere, as plain ONNX."""
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["high"]),
        helper.make_node("Neg", ["scale"], ["low"]),
        helper.make_node("Where", ["high", "scale", "low"], ["y"]),
    ]
    return helper.make_function(DOMAIN, BIPOLAR, ["x", "scale"], ["y"], nodes, [helper.make_opsetid("", opset)])


def quant_function(opset: int) -> FunctionProto:
    """y = scale * (clip(round(x / scale + zero), -m, m) - zero), m = 2^(bits - 1) - 1: signed, in a narrow range."""
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Sub", ["bits", "one"], ["exponent"]),
        helper.make_node("Pow", ["two", "exponent"], ["levels"]),
        helper.make_node("Sub", ["levels", "one"], ["high"]),
        helper.make_node("Neg", ["high"], ["low"]),
        helper.make_node("Div", ["x", "scale"], ["divided"]),
        helper.make_node("Add", ["divided", "zero"], ["moved"]),
        helper.make_node("Round", ["moved"], ["rounded"]),
        helper.make_node("Max", ["rounded", "low"], ["raised"]),
        helper.make_node("Min", ["raised", "high"], ["clipped"]),
        helper.make_node("Sub", ["clipped", "zero"], ["back"]),
        helper.make_node("Mul", ["back", "scale"], ["y"]),
    ]
    inputs, kind = ["x", "scale", "zero", "bits"], ["signed", "narrow", "rounding_mode"]
    return helper.make_function(DOMAIN, QUANT, inputs, ["y"], nodes, [helper.make_opsetid("", opset)], attributes=kind)

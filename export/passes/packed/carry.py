"""Function bodies: a file carries the definition of every operator that it uses."""

from __future__ import annotations

import onnx_ir as ir
from onnx import ModelProto

from bnnapps.export.passes.sites import runnable
from bnnapps.export.qonnx import domain as qonnx
from bnnapps.export.runtime.functions import DOMAIN, VERSION, functions


def executable(model: ir.Model) -> ModelProto:
    """A graph that any runtime can execute: marks are Identity, and operators of the domain have their bodies."""
    return carry_functions(ir.to_proto(runnable(model)))


def carry_functions(model: ModelProto) -> ModelProto:
    """The same file with the body of every operator beyond plain ONNX that it uses; changed in place."""
    used = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    exchanged = qonnx.bodies(model)
    if not used and not exchanged:
        return model
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if used and not any(one.domain == DOMAIN for one in model.opset_import):
        model.opset_import.add(domain=DOMAIN, version=VERSION)
    del model.functions[:]
    model.functions.extend([*functions(used, opset), *exchanged])
    return model


def values_of(model: ModelProto) -> set[str]:
    """The names of all values that nodes of the main graph make."""
    return {name for node in model.graph.node for name in node.output if name}

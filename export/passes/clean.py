"""Tidying: what a file does not need, and the names that a person reads."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx.helper import find_min_ir_version_for, make_opsetid
from onnx_ir.passes import common

from bnnapps.export.graph.trace import PREFIX


def clean(model: ir.Model, name: str) -> None:
    """Tidy a graph, in place, without changing what it computes.

    Constants that nothing uses (the latent weights of an attention) go, transposed constants are transposed once, the
    exporter's notes (they hold paths of the machine) go, initializers get the names that the parameters have in the
    model, and the file asks for no newer format than its operators need.
    """
    _transpose_constants(model)
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
    common.RemoveUnusedOpsetsPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for value in list(model.graph.initializers.values()):
        assert value.name is not None
        short = value.name.removeprefix(PREFIX)
        if short != value.name and short not in model.graph.initializers:
            value.name = short
    model.graph.name = name
    model.graph.doc_string = None
    model.metadata_props.clear()
    opsets = [make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    model.ir_version = find_min_ir_version_for(opsets)


def _transpose_constants(model: ir.Model) -> None:
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type == "Transpose" and node.domain == "" else None
        if source is None or source.const_value is None or not source.is_initializer():
            continue
        order = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
        assert source.name is not None
        name = f"{source.name}.transposed"
        if name not in model.graph.initializers:
            turned = np.ascontiguousarray(np.transpose(source.const_value.numpy(), order))
            fresh = ir.Value(name=name, const_value=ir.tensor(turned, name=name))
            fresh.type, fresh.shape = source.type, ir.Shape(turned.shape)
            model.graph.register_initializer(fresh)
        if not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(model.graph.initializers[name])
            model.graph.remove(node, safe=True)

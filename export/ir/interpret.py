"""A numpy interpreter of whole graphs: the golden model that kernels and back ends are held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from onnx import ModelProto, NodeProto
from onnx.helper import get_attribute_value
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from bnnapps.export.ir.operators import DOMAIN, OPERATORS, compute

Array = npt.NDArray[Any]


def interpret(model: ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a graph: binary operators by their golden definitions, the real-valued rest by onnx.reference.

    Args:
        model: a graph with operators of the domain `bnnapps`; function bodies in it are not used.
        inputs: arrays by name.

    """
    session = ReferenceEvaluator(model, new_ops=_CLASSES)
    return dict(zip(session.output_names, session.run(None, dict(inputs)), strict=True))


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node, by name."""
    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}


def _class_of(op_type: str) -> type[OpRun]:
    def run(self: Any, *inputs: Array, **_: Any) -> tuple[Array, ...]:
        return compute(op_type, attributes_of(self.onnx_node), inputs)

    return type(op_type, (OpRun,), {"op_domain": DOMAIN, "_run": run})


_CLASSES = [_class_of(name) for name in OPERATORS]

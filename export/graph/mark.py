"""Marks: names that survive the way from torch to ONNX.

A mark is an operator that returns its input and carries the name of a site (one quantizer, one product of codes, one
choice among boxes, or one front) and a role. PyTorch's exporter keeps it as a node of the domain `bnnapps`; a pass
reads it there and takes it away.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Role = Literal["input", "codes", "product", "choice", "front"]

DOMAIN = "bnnapps"
OPERATOR = "Mark"


@torch.library.custom_op(
    "bnnapps::mark", mutates_args=(), schema="(Tensor x, str site, str role) -> Tensor"
)  # an operator may not return its own input
def _mark(x: Tensor, site: str, role: str) -> Tensor:
    return x.clone()


@_mark.register_fake
def _mark_shape(x: Tensor, site: str, role: str) -> Tensor:
    return torch.empty_like(x)


def mark(x: Tensor, site: str, role: Role) -> Tensor:
    """x, under a name; a new node of a traced graph, and x itself outside of a trace."""
    if not torch.compiler.is_compiling():
        return x
    marked: Tensor = _mark(x, site, role)
    return marked


def translation() -> dict[Any, Any]:
    """How `torch.onnx.export` writes a mark: its `custom_translation_table`."""
    from onnx.defs import OpSchema
    from onnxscript.values import Op, Opset

    schema = OpSchema(
        OPERATOR,
        DOMAIN,
        1,
        inputs=[OpSchema.FormalParameter("x", "T")],
        outputs=[OpSchema.FormalParameter("y", "T")],
        type_constraints=[("T", ["tensor(float)"], "single precision")],
        attributes=[OpSchema.Attribute(name, OpSchema.AttrType.STRING, "") for name in ("site", "role")],
    )
    node = Op(Opset(DOMAIN, 1), OPERATOR, schema)

    def write(x: Any, site: str, role: str) -> Any:
        return node(x, site=site, role=role)

    return {torch.ops.bnnapps.mark.default: write}

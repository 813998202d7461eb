"""One C header with the binary layers of a packed file, and a program that runs the first of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from onnx import ModelProto, NodeProto, numpy_helper

from bnnapps.errors import ExportError, UsageError
from bnnapps.export.emit import layers, text
from bnnapps.export.file import read_model
from bnnapps.export.ir.operators import DOMAIN

_TOP = """\
/* The binary layers of {model}, for the plain C interface of the bnnapps kernels. Written by bnnapps: do not edit.
 *
 * By layer: NAME_weight goes to bnn_conv_create, bnn_transposed_create or bnn_dense_create together with NAME_shape (or
 * NAME_terms, NAME_outputs and NAME_codes). A copy of NAME_epilogue with y, and with residual and bits where the layer
 * has them, goes to the function that runs the layer. NAME_threshold of a packing goes to bnn_pack.
 */
#ifndef {guard}
#define {guard}

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "bnn.h"
"""


def write(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """See `bnnapps.export.emit_c`."""
    source, target = Path(path), Path(folder)
    if target.exists() and not target.is_dir():
        raise UsageError(f"'{target}' is a file: name a folder")
    prefix = text.identifier(source.stem, "net")
    model = read_model(source)
    nodes = [node for node in model.graph.node if node.domain == DOMAIN and _has_form(node)]
    names = _names(nodes, prefix)
    first = next((index for index, node in enumerate(nodes) if layers.kind_of(node)), None)
    if first is None:
        raise ExportError(f"'{source}' has no layers on bits: export the model with the dialect 'packed'")
    header = _header(model, source.name, prefix, dict(zip(names, nodes, strict=True)))
    program = _program(nodes[first], names[first], prefix)
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{prefix}.h").write_text(header, encoding="utf-8")
    (target / f"{prefix}_layer.c").write_text(program, encoding="utf-8")
    return target / f"{prefix}.h"


def _has_form(node: NodeProto) -> bool:
    return layers.kind_of(node) is not None or node.op_type in ("Pack", "BinaryMaxPool")


def _names(nodes: list[NodeProto], prefix: str) -> list[str]:
    """What the definitions of each node begin with. What follows has no underscore but one, so no two are the same."""
    own = [text.identifier(node.name or f"{node.op_type}_{index}", "layer") for index, node in enumerate(nodes)]
    return [f"{prefix}_{name}" for name in text.distinct(own)]


def _header(model: ModelProto, file: str, prefix: str, named: Mapping[str, NodeProto]) -> str:
    constants = _constants(model)
    guard = f"BNNAPPS_{prefix.upper()}_H"
    parts = [_TOP.format(model=text.comment(file), guard=guard)]
    for name, node in named.items():
        ends = [", ".join(text.comment(end) for end in side if end) for side in (node.input[:1], node.output)]
        parts.append(f"/* {node.op_type} {text.comment(node.name)}: from {ends[0]} to {ends[1]} */\n")
        if layers.kind_of(node):
            parts[-1] += layers.layer(node, name, constants)
        elif node.op_type == "Pack":
            parts[-1] += layers.thresholds(node, name, constants)
        else:
            parts[-1] += layers.pool(node, name)
    return "\n".join([*parts, f"#endif /* {guard} */\n"])


def _constants(model: ModelProto) -> dict[str, layers.Array]:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        value = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            found[node.output[0]] = numpy_helper.to_array(value)
    return found


def _program(node: NodeProto, name: str, prefix: str) -> str:
    """The program of a layer: a template for each kind, in which NAME stands for the name of the layer."""
    kind = layers.kind_of(node)
    template = files("bnnapps.export.emit").joinpath("run_layer.c").read_text(encoding="utf-8")
    defines = f"#define KIND_{str(kind).upper()}\n#define LAYER(part) {name}_##part\n"
    return template.replace("/* HEADER */", f'#include "{prefix}.h"\n\n{defines}')

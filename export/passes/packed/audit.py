"""The audit of a finished packed graph: whether it is built as the dialect promises. Nothing but the graph is read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from bnnapps.errors import ExportError
from bnnapps.export.ir.bits import pack_bits, unpack_weight
from bnnapps.export.ir.operators import DOMAIN, OPERATORS
from bnnapps.export.passes.audit import Array, Expected, Table, check_latent, check_tables
from bnnapps.export.passes.packed.build import array_of
from bnnapps.export.passes.packed.carry import executable

_WEIGHTED = ("BinaryConv", "BinaryDense")


def audit_packed(model: ir.Model, expected: Expected) -> None:
    """Check the structure of a packed graph.

    * Every operator is plain ONNX or one of the domain, and the file with its function bodies passes ONNX's checker.
    * The bits of every layer are those of its weight, but for outputs that are turned over as a whole.
    * No bit lies beyond the end of a row.
    * The codes of every embedding are in the file, signs as bits; no latent weight is, nor are signs of a weight as
      floats.

    Args:
        model: the graph.
        expected: what it must hold, as for a portable file.

    Raises:
        ExportError: one of these does not hold; the layer is named.

    """
    packed: dict[str, Array] = {}
    for node in model.graph:
        if node.domain not in ("", "ai.onnx", DOMAIN) or (node.domain == DOMAIN and node.op_type not in OPERATORS):
            raise ExportError(f"node '{node.name}' is {node.domain}::{node.op_type}, which no runtime knows")
        if node.domain == DOMAIN and node.op_type.startswith(_WEIGHTED):
            site = str(node.name).rpartition("/")[0].partition("#")[0]
            codes = expected.weights.get(site)
            if codes is None:
                raise ExportError(f"layer '{site}': it has a weight of bits that the model does not have")
            _check_bits(site, node, codes)
            packed[f"codes of {site}"] = codes
    check_tables(model, {name: table for name, table in expected.tables.items() if not _is_packed(model, table)})
    check_latent(model, dict(expected.latent))
    _check_no_float_codes(model, packed)
    try:
        onnx.checker.check_model(executable(model))
    except onnx.checker.ValidationError as problem:
        raise ExportError(f"ONNX's checker refuses the exported graph: {str(problem).splitlines()[0]}") from None


def _check_bits(site: str, node: ir.Node, codes: Array) -> None:
    stored = array_of(node.inputs[1])
    if stored is None or stored.dtype != np.uint8:
        raise ExportError(f"layer '{site}': its weight is no constant of bits")
    wanted = codes.T if node.op_type.startswith("BinaryDense") else codes
    terms = int(np.prod(wanted.shape[1:]))
    if stored.shape != (wanted.shape[0], -(-terms // 8)):
        raise ExportError(f"layer '{site}': its weight of bits has the shape {stored.shape}")
    tail = np.unpackbits(stored, axis=-1, bitorder="little")[:, terms:]
    if tail.any():
        raise ExportError(f"layer '{site}': bits lie beyond the end of a row")
    agree = unpack_weight(stored, wanted.shape) == wanted
    if not _turned_as_a_whole(node, agree):
        raise ExportError(f"layer '{site}': {int((~agree).sum())} bits of its weight are not the layer's codes")


def _turned_as_a_whole(node: ir.Node, agree: npt.NDArray[np.bool_]) -> bool:
    """Whether each output's weights agree, or are all turned over where the layer hands out bits."""
    if not node.op_type.endswith("Bits") or "Float" in node.op_type:
        return bool(agree.all())
    if "outputs" in node.attributes:  # (C, O / group, ...): an output's weights are a column of one group
        group = node.attributes["group"].as_int()
        agree = agree.reshape(group, agree.shape[0] // group, agree.shape[1], -1).transpose(0, 2, 1, 3)
        agree = agree.reshape(group * agree.shape[1], -1)
    rows = agree.reshape(agree.shape[0], -1)
    return bool((rows.all(axis=1) | ~rows.any(axis=1)).all())


def _is_packed(model: ir.Model, table: Table) -> bool:
    """Whether the codes of an embedding are in the file as bits."""
    if not bool((np.abs(table) == 1).all()):
        return False
    bits = pack_bits(table > 0)
    stored = (array_of(value) for value in model.graph.initializers.values())
    return any(one is not None and one.dtype == np.uint8 and np.array_equal(one, bits) for one in stored)


def _check_no_float_codes(model: ir.Model, packed: dict[str, Array]) -> None:
    sizes = {codes.size for codes in packed.values() if codes.size > 64}
    for value in model.graph.initializers.values():
        array = array_of(value)
        if array is None or array.dtype != np.float32 or array.size not in sizes:
            continue
        if bool((np.abs(array) == 1).all()):
            raise ExportError(f"'{value.name}' holds {array.size} signs as floats: the bits of a weight are kept twice")

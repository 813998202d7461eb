"""The audit of a finished graph: whether it is built as the dialect promises. It reads the graph, nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from bnnapps.errors import ExportError
from bnnapps.export.passes.sites import Site

Array = npt.NDArray[np.float32]
Table = npt.NDArray[np.int8]

_MOVES_ONLY = ("Identity", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Concat", "Slice", "Expand", "Gather")
_SIGN_TABLES = ((1.0, -1.0), (1.0, 0.0))


@dataclass(frozen=True)
class Expected:
    """What a graph must hold, and must not.

    Attributes:
        one_bit: the quantizers with two codes, by site.
        weights: the codes of each constant operand, by site, laid out as the graph stores them.
        tables: the codes of each embedding, by layer.
        latent: the latent weights that must not be in the file, by name.

    """

    one_bit: frozenset[str]
    weights: Mapping[str, Array]
    tables: Mapping[str, Table]
    latent: Mapping[str, Array]


def audit(model: ir.Model, sites: Iterable[Site], expected: Expected) -> None:
    """Check the structure of a portable graph.

    * Every operator is plain ONNX, and the file passes ONNX's own checker.
    * Codes of one bit come from Where(x >= constant, 1, -1 or 0), never from a bare Sign.
    * A product of codes is a MatMul or a Conv that is read by the barrier Cast(int32) -> Cast(float) alone.
    * Its constant operand holds exactly the codes of the layer's weight; its other operand is made of codes.
    * The codes of every embedding are in the file, and no latent weight is.

    Args:
        model: the graph.
        sites: its quantizers and products.
        expected: what it must hold.

    Raises:
        ExportError: one of these does not hold; the layer is named.

    """
    _check_operators(model)
    values = _values(model)
    sites = tuple(sites)
    codes = {site.result for site in sites if site.role == "quantizer"}
    for site in sites:
        for name in (site.source, site.result):
            if name not in values:
                raise ExportError(f"layer '{site.name}': the value '{name}' is not in the graph any more")
        if site.role == "product":
            _check_product(site, values[site.source], values[site.result], codes, expected.weights)
        elif site.name.split("#")[0] in expected.one_bit:
            _check_codes(site, values[site.result])
    check_tables(model, expected.tables)
    check_latent(model, expected.latent)
    try:
        onnx.checker.check_model(ir.to_proto(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        raise ExportError(f"ONNX's checker refuses the exported graph: {str(problem).splitlines()[0]}") from None


def _check_operators(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        if node.domain not in ("", "ai.onnx"):
            raise ExportError(f"node '{node.name}' is {node.domain}::{node.op_type}, which is not plain ONNX")
    if model.functions:
        raise ExportError("the graph calls functions of its own, which not every runtime knows")


def _values(model: ir.Model) -> dict[str, ir.Value]:
    found = {value.name: value for value in (*model.graph.inputs, *model.graph.initializers.values())}
    for node in model.graph:
        found |= {value.name: value for value in node.outputs}
    return {name: value for name, value in found.items() if name}


def _check_codes(site: Site, value: ir.Value) -> None:
    node = value.producer()
    kind = "nothing" if node is None else node.op_type
    if kind == "Sign":
        raise ExportError(f"layer '{site.name}': its codes come from Sign, which is 0 at 0 where the layer has +1")
    if node is not None and kind == "Where":
        condition = node.inputs[0]
        compare = None if condition is None else condition.producer()
        table = tuple(float(constant) for constant in _scalars(node.inputs[1:]))
        if compare is not None and compare.op_type == "GreaterOrEqual" and table in _SIGN_TABLES:
            return
        kind = f"Where({'a constant' if compare is None else compare.op_type}, {table})"
    raise ExportError(f"layer '{site.name}': its codes come from {kind} instead of x >= constant with 1, -1 or 0")


def _check_product(
    site: Site,
    product: ir.Value,
    integers: ir.Value,
    codes: Collection[str],
    weights: Mapping[str, Array],
) -> None:
    node = product.producer()
    if node is None or node.op_type not in ("MatMul", "Conv", "ConvTranspose"):
        raise ExportError(f"layer '{site.name}': its product is {'gone' if node is None else node.op_type}")
    if node.op_type.startswith("Conv") and len(node.inputs) > 2 and node.inputs[2] is not None:
        raise ExportError(f"layer '{site.name}': its convolution adds a bias inside the exact product")
    _check_barrier(site, product, integers)
    base = site.name.split("#")[0]
    for position, operand in enumerate(node.inputs[:2]):
        assert operand is not None
        if operand.is_initializer():
            _check_weight(site, operand, weights.get(base))
        elif not _made_of_codes(operand, codes):
            side = "left" if position == 0 else "right"
            raise ExportError(f"layer '{site.name}': the {side} operand of its product is not made of codes")


def _check_barrier(site: Site, product: ir.Value, integers: ir.Value) -> None:
    down, up = list(product.consumers()), list(integers.consumers())
    fits = (
        len(down) == 1
        and down[0].op_type == "Cast"
        and down[0].outputs[0] is integers
        and _cast_type(down[0]) == ir.DataType.INT32
        and bool(up)
        and all(node.op_type == "Cast" and _cast_type(node) == ir.DataType.FLOAT for node in up)
    )
    if not fits or product.is_graph_output():
        readers = ", ".join(node.op_type for node in down) or "nothing"
        raise ExportError(
            f"layer '{site.name}': no barrier Cast(int32) -> Cast(float) behind its product (read by {readers}), so a "
            "runtime may fold what follows into the weights"
        )


def _check_weight(site: Site, value: ir.Value, expected: Array | None) -> None:
    assert value.const_value is not None
    stored = value.const_value.numpy()
    if expected is None:
        raise ExportError(f"layer '{site.name}': '{value.name}' is a constant operand that the layer does not have")
    if stored.shape != expected.shape or not np.array_equal(stored, expected):
        wrong = "another shape" if stored.shape != expected.shape else f"{int((stored != expected).sum())} wrong codes"
        raise ExportError(f"layer '{site.name}': the stored weight '{value.name}' has {wrong}")


def check_tables(model: ir.Model, tables: Mapping[str, Table]) -> None:
    """Raise `ExportError` if the codes of an embedding are not in the file."""
    constants = [value.const_value for value in model.graph.initializers.values()]
    stored = [tensor.numpy() for tensor in constants if tensor is not None and tensor.dtype == ir.DataType.INT8]
    for name, table in tables.items():
        if not any(np.array_equal(one, table) for one in stored):
            raise ExportError(
                f"layer '{name}': the codes of its rows are not in the file, or not as the layer has them"
            )


def check_latent(model: ir.Model, latent: Mapping[str, Array]) -> None:
    """Raise `ExportError` if a latent weight is in the file."""
    by_size: dict[int, list[tuple[str, Array]]] = {}
    for name, weight in latent.items():
        if not np.isin(weight, (-1.0, 0.0, 1.0)).all():  # else the latent weight is its own code
            by_size.setdefault(weight.size, []).append((name, weight))
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT:
            continue
        for name, weight in by_size.get(tensor.size, []):
            stored = tensor.numpy().ravel()
            if any(np.array_equal(stored, form.ravel()) for form in (weight, weight.T)):
                raise ExportError(f"the latent weight '{name}' is in the file as '{value.name}'")


def _made_of_codes(value: ir.Value, codes: Collection[str]) -> bool:
    """Whether a value is codes that were only moved, or padded with a code."""
    if value.name in codes:
        return True
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "Pad":
        border = list(_scalars(node.inputs[2:3])) if len(node.inputs) > 2 else [0.0]
        inner = node.inputs[0]
        return all(b in (-1.0, 0.0, 1.0) for b in border) and inner is not None and _made_of_codes(inner, codes)
    if node.op_type not in _MOVES_ONLY:
        return False
    moved = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    return all(v is not None and _made_of_codes(v, codes) for v in moved)


def _cast_type(node: ir.Node) -> int:
    return int(node.attributes["to"].as_int())


def _scalars(values: Iterable[ir.Value | None]) -> Iterator[float]:
    for value in values:
        if value is not None and value.const_value is not None and value.const_value.size == 1:
            yield float(value.const_value.numpy().reshape(()))
        else:
            yield float("nan")

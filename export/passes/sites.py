"""From marks to sites: where the quantizers and the products of codes are in a graph, and the barrier behind each.

A runtime folds what follows a product (a scale, a BatchNorm) into the product's weights, and sums that should be 0
come out as rounding noise: signs flip at ties. A Cast to int32 and back changes no exact sum, and nothing is folded
across it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from bnnapps.errors import ExportError
from bnnapps.export.graph.mark import DOMAIN, OPERATOR

SiteRole = Literal["quantizer", "product", "choice", "front"]
LEADING: tuple[SiteRole, ...] = ("quantizer", "choice", "front")
"""The roles whose results torch takes over where it is led."""


@dataclass(frozen=True)
class Site:
    """A quantizer, a product of codes, a choice among boxes, or a front, in an ONNX graph.

    Attributes:
        name: the site as the deployed model calls it; call 2 of a shared layer ends in "#2".
        role: what it is.
        source: the value that goes in: the real input of a quantizer, the sums of a product, the boxes of a choice,
            the input of a front.
        result: the value that comes out: the codes, the sums as int32, the scores that are left, what a front gives.
        scores: of a choice: the scores that go in.

    """

    name: str
    role: SiteRole
    source: str
    result: str
    scores: str = ""


def runnable(model: ir.Model) -> ir.Model:
    """A copy in which every mark is an Identity, so that a runtime can execute it."""
    copy = model.clone()
    for node in copy.graph.all_nodes():
        if _is_mark(node):
            node.domain, node.op_type = "", "Identity"
            node.attributes.clear()
    copy.graph.opset_imports.pop(DOMAIN, None)
    return copy


def marked_sites(model: ir.Model) -> tuple[Site, ...]:
    """The sites of a graph that still has its marks, by the values as they are named now, in execution order."""
    nodes = _marks(model)
    names = _unique_names(nodes)
    found: list[Site] = []
    for node in nodes:
        if _role(node) == "codes":
            source = _input_mark(node)
            found.append(Site(names[node], "quantizer", _name(source.inputs[0]), _name(node.outputs[0])))
        elif _role(node) == "product":
            found.append(Site(names[node], "product", _name(node.inputs[0]), _name(node.outputs[0])))
        elif _role(node) == "choice":
            boxes, scores = _chosen_from(node.inputs[0])
            found.append(Site(names[node], "choice", _name(boxes), _name(node.outputs[0]), _name(scores)))
        elif _role(node) == "front":
            source = _input_mark(node)
            found.append(Site(names[node], "front", _name(source.inputs[0]), _name(node.outputs[0])))
    return tuple(found)


def lower_marks(model: ir.Model) -> tuple[Site, ...]:
    """Take every mark away, in place: name the values at each site, and put a barrier behind each product.

    Codes are called SITE/codes, sums SITE/product, the sums as int32 SITE/integers.

    Returns:
        The sites, in execution order.

    """
    nodes = _marks(model)
    names = _unique_names(nodes)
    sources = {node: _input_mark(node).inputs[0] for node in nodes if _role(node) in ("codes", "front")}
    found: list[tuple[str, SiteRole, ir.Value, ir.Value]] = []
    candidates: dict[str, ir.Value] = {}
    for node in nodes:
        value, name = node.inputs[0], names[node]
        assert value is not None
        if _role(node) == "product":
            _rename(value, f"{name}/product")
            integers, real = _barrier(model.graph, node, value, name)
            found.append((name, "product", value, integers))
            value = real
        elif _role(node) == "codes":
            _rename(value, f"{name}/codes")
            source = sources[node]
            assert source is not None
            found.append((name, "quantizer", source, value))
        elif _role(node) == "choice":
            _rename(value, f"{name}/choice")
            boxes, candidates[name] = _chosen_from(value)
            found.append((name, "choice", boxes, value))
        elif _role(node) == "front":
            _rename(value, f"{name}/front")
            source = sources[node]
            assert source is not None
            found.append((name, "front", source, value))
        _remove(model.graph, node, value)
    model.graph.opset_imports.pop(DOMAIN, None)
    scores = {name: _name(value) for name, value in candidates.items()}
    return tuple(
        Site(name, role, _name(source), _name(result), scores.get(name, "") if role == "choice" else "")
        for name, role, source, result in found
    )


def _barrier(graph: ir.Graph, mark: ir.Node, value: ir.Value, name: str) -> tuple[ir.Value, ir.Value]:
    """Cast(int32) -> Cast(float) in front of a mark; the values behind either."""
    down = ir.node("Cast", [value], attributes={"to": ir.DataType.INT32}, name=f"{name}/barrier_down")
    up = ir.node("Cast", [down.outputs[0]], attributes={"to": ir.DataType.FLOAT}, name=f"{name}/barrier_up")
    for node, suffix, kind in ((down, "integers", ir.DataType.INT32), (up, "sums", ir.DataType.FLOAT)):
        node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = f"{name}/{suffix}", kind, value.shape
    graph.insert_before(mark, [down, up])
    return down.outputs[0], up.outputs[0]


def _remove(graph: ir.Graph, mark: ir.Node, value: ir.Value) -> None:
    output = mark.outputs[0]
    if output.is_graph_output():
        mark.domain, mark.op_type = "", "Identity"
        mark.attributes.clear()
        mark.replace_input_with(0, value)
        return
    output.replace_all_uses_with(value)
    graph.remove(mark, safe=True)


def _marks(model: ir.Model) -> list[ir.Node]:
    top = [node for node in model.graph if _is_mark(node)]
    inner = [node for node in model.graph.all_nodes() if _is_mark(node) and node.graph is not model.graph]
    if inner:
        raise ExportError(
            f"layer '{_site(inner[0])}' is inside a branch or a loop of the traced graph, where it cannot be checked: "
            "keep it real, or write the model without data-dependent control flow"
        )
    return top


def _unique_names(nodes: list[ir.Node]) -> dict[ir.Node, str]:
    calls: Counter[tuple[str, str]] = Counter()
    names: dict[ir.Node, str] = {}
    for node in nodes:
        key = _site(node), _role(node)
        calls[key] += 1
        names[node] = call_name(key[0], calls[key])
    return names


def call_name(site: str, call: int) -> str:
    """The name of a site at the given call, 1 for the first."""
    return site if call == 1 else f"{site}#{call}"


def _input_mark(codes: ir.Node) -> ir.Node:
    """The mark of a site's input, found by going back from the mark of its codes or of what a front gives."""
    waiting = [codes]
    while waiting:
        node = waiting.pop()
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if producer is None:
                continue
            if _is_mark(producer) and _role(producer) == "input" and _site(producer) == _site(codes):
                return producer
            if not _is_mark(producer):
                waiting.append(producer)
    what = "front" if _role(codes) == "front" else "quantizer"
    raise ExportError(f"the {what} of '{_site(codes)}' was folded away: its input does not depend on the model's")


def _chosen_from(kept: ir.Value | None) -> tuple[ir.Value, ir.Value]:
    """The boxes and the scores that a choice is made from: what `NonMaxSuppression` reads, two nodes back."""
    scatter = None if kept is None else kept.producer()
    assert scatter is not None
    indices = scatter.inputs[1]
    node = None if indices is None else indices.producer()
    if node is None or node.op_type != "NonMaxSuppression":
        raise ExportError("a choice among boxes was folded away: it does not depend on the model's input")
    boxes, scores = node.inputs[:2]
    assert boxes is not None
    assert scores is not None
    return boxes, scores


def _is_mark(node: ir.Node) -> bool:
    return node.domain == DOMAIN and node.op_type == OPERATOR


def _site(node: ir.Node) -> str:
    return node.attributes["site"].as_string()


def _role(node: ir.Node) -> str:
    return node.attributes["role"].as_string()


def _name(value: ir.Value | None) -> str:
    assert value is not None
    assert value.name is not None
    return value.name


def _rename(value: ir.Value, name: str) -> None:
    producer = value.producer()
    assert producer is not None
    value.name = name
    producer.name = name

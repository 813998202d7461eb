"""Chains of operators that work on each channel by itself, and what they compute, by torch's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from bnnapps.export.passes.packed.build import array_of

Channelwise = Callable[[Tensor], Tensor]
"""From values of shape (n, C) to values of shape (n, C)."""


@dataclass(frozen=True)
class Link:
    """One operator of a chain.

    Attributes:
        node: of the graph.
        source: the value that it changes.
        apply: what it does to it.
        rises: whether it is known not to fall in any channel, also after rounding.

    """

    node: ir.Node
    source: ir.Value
    apply: Channelwise
    rises: bool


def link(node: ir.Node, value: ir.Value, axis: int) -> Link | None:
    """The node as a function of each channel of one of its inputs, or `None` if it is none.

    Args:
        node: any node.
        value: one of its inputs.
        axis: where the channels of that input lie, counted from the end (so negative).

    """
    if node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
        return None
    found = _function(node, value, axis)
    return None if found is None else Link(node, value, *found)


def only_reader(value: ir.Value | None) -> ir.Node | None:
    """The node that alone reads a value, once, or `None`."""
    if value is None or value.is_graph_output():
        return None
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 else None


def chain_before(value: ir.Value, axis: int) -> tuple[ir.Value, list[Link]]:
    """Back from a value through operators on each channel that nobody else reads: where they begin, and the links."""
    links: list[Link] = []
    while True:
        node = value.producer()
        if node is None or only_reader(value) is None:
            return value, links[::-1]
        source = _moving_input(node)
        found = None if source is None else link(node, source, axis)
        if found is None:
            return value, links[::-1]
        links.append(found)
        value = found.source


def evaluate(links: list[Link], x: Tensor) -> Tensor:
    """What a chain makes of values of shape (n, C)."""
    for one in links:
        x = one.apply(x)
    return x


def per_channel(value: ir.Value | None, axis: int) -> Tensor | None:
    """A constant that has one element, or one for each channel: shape (1,) or (C,); else `None`.

    Args:
        value: broadcast against the value whose channels lie on `axis`.
        axis: counted from the end.

    """
    array = array_of(value)
    if array is None or array.dtype.kind not in "fi":
        return None
    long = [i - array.ndim for i, size in enumerate(array.shape) if size != 1]
    if long not in ([], [axis]):
        return None
    return torch.from_numpy(array.reshape(-1).copy()).to(torch.float32)


def _moving_input(node: ir.Node) -> ir.Value | None:
    moving = [value for value in node.inputs if value is not None and value.const_value is None]
    return moving[0] if len(moving) == 1 else None


def _function(node: ir.Node, value: ir.Value, axis: int) -> tuple[Channelwise, bool] | None:
    kind = node.op_type
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == "Cast":
        return (_to_float, True) if node.attributes["to"].as_int() == ir.DataType.FLOAT else None
    if kind == "LeakyRelu":
        slope = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 0.01
        return lambda x: F.leaky_relu(x, slope), slope >= 0
    if kind == "BatchNormalization":
        return _batch_norm(node, axis)
    if kind == "Clip":
        return _clip(node)
    if kind in _ARITHMETIC or kind == "PRelu":
        return _binary(node, value, axis)
    return None


def _to_float(x: Tensor) -> Tensor:
    return x.to(torch.float32)


_PLAIN: dict[str, tuple[Channelwise, bool]] = {
    "Identity": (lambda x: x, True),
    "Relu": (torch.relu, True),
    "Neg": (torch.neg, False),
    "Tanh": (torch.tanh, False),  # rises, but a mathematical library does not promise it of its roundings
    "Sigmoid": (torch.sigmoid, False),
}

_ARITHMETIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
}


def _binary(node: ir.Node, value: ir.Value, axis: int) -> tuple[Channelwise, bool] | None:
    first = node.inputs[0] is value
    constant = per_channel(node.inputs[1] if first else node.inputs[0], axis)
    if constant is None:
        return None
    positive = bool((constant >= 0).all())
    if node.op_type == "PRelu":
        return (lambda x: F.prelu(x, constant), positive) if first else None
    operate = _ARITHMETIC[node.op_type]
    if first:
        return lambda x: operate(x, constant), node.op_type in ("Add", "Sub") or positive
    return lambda x: operate(constant, x), node.op_type == "Add" or (node.op_type == "Mul" and positive)


def _batch_norm(node: ir.Node, axis: int) -> tuple[Channelwise, bool] | None:
    rank = None if node.inputs[0] is None or node.inputs[0].shape is None else len(node.inputs[0].shape)
    factors = [per_channel(value, -1) for value in node.inputs[1:5]]
    weight, bias, mean, variance = factors
    if rank is None or axis != 1 - rank or weight is None or bias is None or mean is None or variance is None:
        return None
    eps = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    rises = bool((weight >= 0).all())
    return lambda x: F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), rises


def _clip(node: ir.Node) -> tuple[Channelwise, bool] | None:
    bounds: list[float | None] = [None, None]
    for i, value in enumerate(node.inputs[1:3]):
        if value is not None:
            limit = per_channel(value, -1)
            if limit is None or limit.numel() != 1:
                return None
            bounds[i] = float(limit)
    low, high = bounds
    return lambda x: x.clamp(low, high), True

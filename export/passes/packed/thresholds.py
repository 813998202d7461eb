"""Thresholds: what lies between exact sums and the next bits becomes one integer comparison for each channel.

The real float32 functions (scale, bias, BatchNorm, non-linearities) are evaluated at every sum that can be reached, so
the comparison gives the same bit as they do, ties and rounding included. A channel whose function falls has its weights
turned over, and so rises. Source of the idea: FINN (Umuroglu et al., 2017), Larq Compute Engine (Bannink et al., 2021).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import Tensor

from bnnapps.export.graph.bisect import first_high
from bnnapps.export.ir.bits import Bits, Codes, pack_weight, unpack_weight
from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.passes.packed.build import array_of, constant, rank_of
from bnnapps.export.passes.packed.chain import Link, chain_before, evaluate, only_reader

_WITH_WEIGHT = ("BinaryConvInteger", "BinaryConvTransposeInteger", "BinaryDenseInteger")


def merge_thresholds(model: ir.Model) -> list[str]:
    """Let layers hand out bits where only a `Pack` reads what becomes of their sums, in place.

    Returns:
        A note for each layer whose function is not monotonic, and which stays real.

    """
    notes: list[str] = []
    for node in list(model.graph):
        if _is(node, "Pack"):
            note = _merge(model.graph, node)
            notes += [] if note is None else [note]
    common.RemoveUnusedNodesPass()(model)
    return notes


def _merge(graph: ir.Graph, pack: ir.Node) -> str | None:
    x = pack.inputs[0]
    rank, threshold = rank_of(x), array_of(pack.inputs[1])
    if x is None or rank is None or threshold is None:
        return None
    axis = pack.attributes["axis"].as_int() - rank
    begin, links = chain_before(x, axis)
    layer = begin.producer()
    if not links or only_reader(begin) is None:
        return None
    if layer is not None and layer.domain == DOMAIN and layer.op_type in _WITH_WEIGHT:
        if axis != (-1 if layer.op_type == "BinaryDenseInteger" else 1 - rank):
            return None
        return _into_layer(graph, pack, layer, links, torch.from_numpy(threshold.copy()))
    if begin.dtype == ir.DataType.FLOAT:
        _into_pack(graph, pack, begin, links, torch.from_numpy(threshold.copy()), axis)
    return None


def _into_layer(graph: ir.Graph, pack: ir.Node, layer: ir.Node, links: list[Link], threshold: Tensor) -> str | None:
    weight = array_of(layer.inputs[1])
    assert weight is not None
    terms = terms_of(layer)
    outputs = int(layer.attributes["outputs"].as_ints()[0]) if "outputs" in layer.attributes else weight.shape[0]
    z = reachable(terms, _parity_is_fixed(layer))
    found = integer_thresholds(lambda x: evaluate(links, x) >= threshold, z, outputs)
    if found is None:
        return f"layer '{layer.name}': what follows its sums is not monotonic, so they stay integers and floats"
    limits, falling = found
    codes = _turned(layer, weight, falling.numpy())
    base = str(layer.inputs[1].name) if layer.inputs[1] is not None else "weight"
    turned = constant(graph, base if not bool(falling.any()) else f"{base}.turned", pack_weight(codes))
    limit = constant(graph, f"{base.removesuffix('/weight')}/limits", limits.to(torch.int32).numpy())
    node = ir.node(
        layer.op_type.replace("Integer", "Bits"),
        [layer.inputs[0], turned, limit],
        attributes=dict(layer.attributes),
        domain=DOMAIN,
        name=str(layer.name).replace("Integer", "Bits"),
    )
    old = pack.outputs[0]
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = old.name, ir.DataType.UINT8, old.shape
    old.name = f"{old.name}/before"
    graph.insert_before(pack, node)
    old.replace_all_uses_with(node.outputs[0])
    return None


def _turned(layer: ir.Node, weight: Bits, falling: npt.NDArray[np.bool_]) -> Codes:
    """The codes of the weight, with those that make a falling output turned over."""
    if "outputs" not in layer.attributes:
        codes = unpack_weight(weight, (len(falling), terms_of(layer)))
        return np.where(falling[:, None], -codes, codes).astype(np.int8)
    group = layer.attributes["group"].as_int()
    taps = int(np.prod(layer.attributes["kernel_shape"].as_ints()))
    codes = unpack_weight(weight, (weight.shape[0], len(falling) // group, taps))
    of_channel = np.repeat(falling.reshape(group, -1), weight.shape[0] // group, axis=0)
    return np.where(of_channel[:, :, None], -codes, codes).astype(np.int8)


def _into_pack(
    graph: ir.Graph, pack: ir.Node, begin: ir.Value, links: list[Link], threshold: Tensor, axis: int
) -> None:
    """Let `Pack` read the value in front of a rising chain; a falling one stays."""
    channels = 1
    for one in links:
        for value in one.node.inputs:
            array = array_of(value)
            channels = max(channels, 1 if array is None else array.size)
    channels = max(channels, threshold.numel())
    if begin.shape is None or (channels > 1 and begin.shape[axis] != channels):
        return
    if not all(one.rises for one in links):
        return
    limits = first_high(lambda x: (evaluate(links, x[None]) >= threshold)[0], (channels,))
    name = str(pack.outputs[0].name).removesuffix("/bits")
    pack.replace_input_with(0, begin)
    pack.replace_input_with(1, constant(graph, f"{name}/threshold", limits.numpy()))


def integer_thresholds(is_high: Callable[[Tensor], Tensor], z: Tensor, outputs: int) -> tuple[Tensor, Tensor] | None:
    """Per channel the smallest sum that gives a high bit, and whether the weights must be turned over for it.

    Args:
        is_high: from sums of shape (n, O) as float32 to booleans of that shape.
        z: every sum that can be reached, rising, shape (n,).
        outputs: O.

    Returns:
        Limits of shape (O,) for z (or -z, where turned over); largest + 1 where no sum is high. `None` if some channel
        changes more than once.

    """
    high = is_high(z.to(torch.float32)[:, None].expand(-1, outputs).contiguous())
    changes = (high[1:] != high[:-1]).sum(dim=0)
    if bool((changes > 1).any()):
        return None
    falling = high[0] & ~high[-1]
    count = high.sum(dim=0)
    beyond = z[-1:] + 1
    rising_limit = torch.cat([z, beyond])[len(z) - count]
    falling_limit = -z[(count - 1).clamp(min=0)]
    return torch.where(falling, falling_limit, rising_limit), falling


def reachable(terms: int, fixed_parity: bool) -> Tensor:
    """Every sum of `terms` codes: -K, ..., K in steps of 2, or of 1 where borders of 0 or unsigned codes change it."""
    return torch.arange(-terms, terms + 1, 2 if fixed_parity else 1)


def terms_of(layer: ir.Node) -> int:
    """How many products a sum of a convolution or dense layer has."""
    channels = int(layer.attributes["channels"].as_ints()[0])
    if "kernel_shape" not in layer.attributes:
        return channels
    taps = int(np.prod(layer.attributes["kernel_shape"].as_ints()))
    return channels // layer.attributes["group"].as_int() * taps


def _parity_is_fixed(layer: ir.Node) -> bool:
    if layer.attributes["low"].as_float() == 0.0 or "outputs" in layer.attributes:
        return False
    if "pads" not in layer.attributes or not any(layer.attributes["pads"].as_ints()):
        return True
    return layer.attributes["pad_value"].as_float() != 0.0


def _is(node: ir.Node, op_type: str) -> bool:
    return node.domain == DOMAIN and node.op_type == op_type

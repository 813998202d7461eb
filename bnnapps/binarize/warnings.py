"""What is allowed but rarely meant."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bnnapps.binarize.packing import packing_warnings
from bnnapps.binarize.registry import type_of
from bnnapps.forward import run_model
from bnnapps.nn.layers.base import parts_of_twin, to_binary
from bnnapps.nn.spec import (
    ActivationSpec,
    AggregationSpec,
    AttentionSpec,
    BlockSpec,
    LinearSpec,
    NonlinearitySpec,
)

if TYPE_CHECKING:
    from bnnapps.binarize.plan import Entry

_NOT_NEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Softmax, nn.Softplus, nn.Hardsigmoid)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d)
_KEEPS_SIGN = (*_POOLS, *_ADAPTIVE_POOLS, nn.Dropout, nn.Flatten, nn.Identity)


def plan_warnings(model: nn.Module, entries: Sequence[Entry], example_inputs: Any = None) -> list[str]:
    """One line for each trouble: half-binary layers, signs whose input is never negative, widths that waste bits."""
    return [
        *_half_binary(entries),
        *_all_plus_one(model, entries, example_inputs),
        *packing_warnings(model, entries),
    ]


def _half_binary(entries: Sequence[Entry]) -> list[str]:
    only_weights, only_activations = [], []
    for entry in entries:
        if isinstance(entry.spec, LinearSpec):
            if entry.spec.activation is None and entry.spec.weight is not None:
                only_weights.append(entry.name)
            if entry.spec.weight is None and entry.spec.activation is not None:
                only_activations.append(entry.name)
    lines = []
    if only_weights:
        lines.append(f"{_some(only_weights)}: binary weights but real activations, so no 1-bit arithmetic")
    if only_activations:
        lines.append(f"{_some(only_activations)}: binary activations but real weights, so no 1-bit arithmetic")
    return lines


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{n}'" for n in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _all_plus_one(model: nn.Module, entries: Sequence[Entry], example_inputs: Any) -> list[str]:
    signed = {e.name for e in entries if _takes_a_plain_sign(e)}
    inputs = example_inputs
    if inputs is None:
        replaced = {e.name for e in entries if isinstance(e.spec, NonlinearitySpec)}
        found = _after_relu(model, signed, replaced)
    else:
        normed = [f"{e.name}." for e in entries if isinstance(e.spec, BlockSpec) and e.spec.norm == "before"]
        signed = {n for n in signed if not n.startswith(tuple(normed))}
        found = _never_negative(_with_blocks(model, entries), signed, inputs)
    if not found:
        return []
    return [
        f"{_some(found)}: the input is never negative, so its sign is always +1 and says nothing: put a BatchNorm or a "
        "learned shift before it, move the ReLU behind it, or use unsigned codes"
    ]


def _takes_a_plain_sign(entry: Entry) -> bool:
    activation: ActivationSpec | None = None
    if isinstance(entry.spec, LinearSpec):
        activation = entry.spec.activation
    elif isinstance(entry.spec, AttentionSpec):
        return False
    if activation is None or activation.bits > 1:
        return False
    return not activation.unsigned and activation.shift == "none" and activation.scale not in ("affine", "dual")


def _after_relu(model: nn.Module, names: set[str], replaced: set[str]) -> list[str]:
    """Layers that follow a ReLU or the like in an `nn.Sequential`, with nothing but pooling and the like between."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Sequential):
            children = [(key, child) for key, child in module._modules.items() if not isinstance(child, _KEEPS_SIGN)]
            for (first, before), (key, _) in itertools.pairwise(children):
                full, earlier = (f"{name}.{k}" if name else k for k in (key, first))
                if isinstance(before, _NOT_NEGATIVE) and earlier not in replaced and full in names:
                    found.append(full)
    return found


def _with_blocks(model: nn.Module, entries: Sequence[Entry]) -> nn.Module:
    """A float copy with its blocks, non-linearities and aggregations as planned: they decide what layers read."""
    blocks = [(e.name, e.spec) for e in entries if isinstance(e.spec, (BlockSpec, NonlinearitySpec, AggregationSpec))]
    if not blocks:
        return model
    copied = copy.deepcopy(model)
    for name, spec in blocks:
        block = copied.get_submodule(name)
        kind = type_of(block)
        assert kind is not None
        twin = kind.twin_for(block)
        to_binary(block, twin, spec, parts_of_twin(twin, block, spec))
    return copied


def _never_negative(model: nn.Module, names: set[str], example_inputs: Any) -> list[str]:
    """Layers whose float input has no negative element on the example inputs."""
    lowest: dict[str, float] = {}
    modules = dict(model.named_modules())

    def look(name: str, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor) and args[0].is_floating_point() and args[0].numel():
            lowest[name] = min(lowest.get(name, float("inf")), float(args[0].min()))

    handles = [modules[n].register_forward_pre_hook(lambda m, a, n=n: look(n, a)) for n in names]
    try:
        with torch.no_grad():
            run_model(model, example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [n for n in modules if lowest.get(n, -1.0) >= 0]

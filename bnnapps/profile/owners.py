"""Which layer a module belongs to."""

from __future__ import annotations

from torch import nn

from bnnapps.binarize.registry import LayerType, layer_types, type_of
from bnnapps.nn.layers.base import PARTS, BinaryLayer


def layer_type_of(module: nn.Module) -> LayerType | None:
    """The registered kind of a float or binary layer, or `None`."""
    if isinstance(module, BinaryLayer):
        return next((t for t in layer_types().values() if isinstance(module, t.twin)), None)
    return type_of(module)


def owners(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Each module, and the layer that it is counted with: itself, unless it is a part of a layer.

    Parts are the binarizers of a binary layer, and children whose forward is never called (`out_proj` of
    `nn.MultiheadAttention`). A binary layer among the parts (in a base of Group-Net) is one of its own.
    """
    found: dict[nn.Module, nn.Module] = {}

    def walk(module: nn.Module, owner: nn.Module | None) -> None:
        if module in found:
            return
        if isinstance(module, BinaryLayer):
            owner = None
        found[module] = module if owner is None else owner
        kind = layer_type_of(module)
        absorbed = kind.absorbs if kind is not None else ()
        for name, child in module.named_children():
            is_part = name in absorbed or (isinstance(module, BinaryLayer) and name == PARTS)
            walk(child, found[module] if owner is not None or is_part else None)

    walk(model, None)
    return found

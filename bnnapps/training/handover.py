"""What a binary network has learned beyond its float weights, handed on to the network of the next stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.layers.base import PARTS, BinaryLayer, float_class


@dataclass(frozen=True)
class Part:
    """One module among the parts of a binary layer: its class, its record, and its own tensors."""

    kind: type[nn.Module]
    spec: Any
    tensors: dict[str, Tensor]


def learned_parts(model: nn.Module) -> dict[str, Part]:
    """Copies of everything that the parts of the model's binary layers hold, by module name."""
    return {
        name: Part(_kind(module), _record(module), {k: t.clone() for k, t in _tensors(module).items()})
        for name, module in _parts(model)
    }


@torch.no_grad()
def hand_over(model: nn.Module, learned: dict[str, Part]) -> list[str]:
    """Give the model's parts what parts of the same name, class, record and shapes had; return their names.

    A part of another record starts anew: a learned scale for another number of bits is made again from data. Only the
    shift of an activation goes over in any case, as it moves the input whatever the quantizer behind it is; and the
    weights of the bases of a block, which are latent weights as those of any layer.
    """
    taken = []
    for name, module in _parts(model):
        part = learned.get(name)
        if part is None or part.kind is not _kind(module):
            continue
        own = _tensors(module)
        if part.spec == _record(module):
            chosen = part.tensors
            fits = own.keys() == chosen.keys()
        else:
            chosen = {k: t for k, t in part.tensors.items() if k == "shift" and isinstance(module, ActivationBinarizer)}
            fits = own.keys() >= chosen.keys()
        if chosen and fits and all(own[k].shape == t.shape for k, t in chosen.items()):
            module.load_state_dict(chosen, strict=False)
            taken.append(name)
    return taken


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for layer_name, layer in model.named_modules():
        if isinstance(layer, BinaryLayer):
            prefix = f"{layer_name}.{PARTS}" if layer_name else PARTS
            yield from layer._modules[PARTS].named_modules(prefix=prefix)  # type: ignore[union-attr]


def _kind(module: nn.Module) -> type[nn.Module]:
    """The module's class, of a binary layer among the parts that of its float form."""
    return float_class(module) if isinstance(module, BinaryLayer) else type(module)


def _record(module: nn.Module) -> Any:
    return None if isinstance(module, BinaryLayer) else getattr(module, "spec", None)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """The module's own parameters and saved buffers, without those of its children."""
    buffers = {k: t for k, t in module.named_buffers(recurse=False) if k not in module._non_persistent_buffers_set}
    return {k: p.detach() for k, p in module.named_parameters(recurse=False)} | buffers

"""How many binary weights of a layer have changed their sign; the signs are kept as bits."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bnnapps.nn.functional.bits import pack_bits
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.weights import WeightBinarizer


def weight_signs(layer: BinaryLayer) -> list[Tensor]:  # type: ignore[type-arg]
    """The signs of all codes of the layer's weights, as deployment has them: one packed vector for each weight.

    Ternary codes count by `code >= 0`; a split weight has two vectors. Shapes: (ceil(numel / 8),), uint8.
    """
    with torch.no_grad():
        return [pack_bits((codes >= 0).contiguous()).data for codes in _codes(layer)]


def _codes(layer: BinaryLayer) -> Iterator[Tensor]:  # type: ignore[type-arg]
    for _, weight, binarizer in layer.latents():
        trains = binarizer.training
        binarizer.eval()  # what noise a method adds in training is not deployed
        try:
            if binarizer.spec.kind == "split":
                yield binarizer.binary(binarizer.first).codes
                yield binarizer.binary(binarizer.second).codes
            else:
                yield binarizer(weight).codes
        finally:
            binarizer.train(trains)


def weight_count(layer: BinaryLayer) -> int:  # type: ignore[type-arg]
    """How many signs `weight_signs` holds."""
    return sum(w.numel() * (2 if b.spec.kind == "split" else 1) for _, w, b in layer.latents())


def count_flips(before: list[Tensor], after: list[Tensor]) -> int:
    """How many bits differ between two results of `weight_signs`."""
    changed = [torch.bitwise_xor(a.to(b.device), b) for a, b in zip(before, after, strict=True)]
    return sum(int(_bits_of_bytes(c.device).index_select(0, c.int()).sum()) for c in changed)


def _bits_of_bytes(device: torch.device) -> Tensor:
    return torch.tensor([byte.bit_count() for byte in range(256)], device=device)


def trained_weights(layer: BinaryLayer) -> list[nn.Parameter]:  # type: ignore[type-arg]
    """The parameters whose signs are the layer's weights, but for frozen ones; of a split weight, its two halves."""
    found = [p for _, weight, binarizer in layer.latents() for p in _parameters(weight, binarizer)]
    return [p for p in dict.fromkeys(found) if p.requires_grad]


def _parameters(weight: Tensor, binarizer: WeightBinarizer) -> list[nn.Parameter]:
    if binarizer.spec.kind == "split":
        return [binarizer.first, binarizer.second]
    whole = weight if weight._base is None else weight._base  # the projections of an attention lie in one
    return [whole] if isinstance(whole, nn.Parameter) else []

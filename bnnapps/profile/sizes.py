"""What a network needs to be stored: bits for the weights that are codes, four bytes for every other number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from bnnapps.nn.layers.base import BinaryLayer, Parts
from bnnapps.nn.weights import WeightBinarizer
from bnnapps.profile.owners import owners

REAL_BYTES = 4


@dataclass
class Size:
    """The parameters of a layer as a deployed file holds them.

    Attributes:
        one_bit: weights of one bit; a split weight counts twice, once for each of its two binary weights.
        two_bit: ternary weights, of two bits.
        real: real parameters, and the scales of binary and ternary weights.
        packed_bytes: bits rounded up to whole bytes for each weight tensor, and four bytes for each real number.
        float_bytes: four bytes for each parameter of the float layer.

    """

    one_bit: int = 0
    two_bit: int = 0
    real: int = 0
    packed_bytes: int = 0
    float_bytes: int = 0

    @property
    def params(self) -> int:
        """All of them."""
        return self.one_bit + self.two_bit + self.real


@dataclass(frozen=True)
class _Form:
    """How a layer stores one of its parameters: bits an element (0: not at all), and how many scales beside it."""

    bits: int
    scales: int = 0


_REAL = _Form(32)


def sizes(model: nn.Module) -> dict[nn.Module, Size]:
    """The size of each layer that holds parameters.

    A tied parameter counts once, where it comes first, and is stored in bits only if all its layers do so. Buffers
    are not counted.
    """
    owner = owners(model)
    uses: dict[nn.Parameter, list[_Form]] = {}
    layers: dict[nn.Parameter, nn.Module] = {}
    added: set[nn.Parameter] = set()  # by binarizing
    for module in model.modules():
        layer = owner[module]
        forms = _forms(layer) if isinstance(layer, BinaryLayer) else {}
        for parameter in module.parameters(recurse=False):
            uses.setdefault(parameter, []).append(forms.get(parameter, _REAL))
            layers.setdefault(parameter, layer)
        if isinstance(module, Parts):
            added.update(module.parameters())
    for module in model.modules():
        for parameter in module.resting() if isinstance(module, BinaryLayer) else ():
            uses[parameter] = [_Form(0)]
    found: dict[nn.Module, Size] = {}
    for parameter, forms_of_parameter in uses.items():
        size = found.setdefault(layers[parameter], Size())
        _add(size, parameter.numel(), _combined(forms_of_parameter))
        if parameter not in added:
            size.float_bytes += REAL_BYTES * parameter.numel()
    return found


def _combined(forms: list[_Form]) -> _Form:
    bits = max(f.bits for f in forms)
    return _REAL if bits == _REAL.bits else _Form(bits, sum(f.scales for f in forms))


def _add(size: Size, count: int, form: _Form) -> None:
    if form == _REAL:
        size.real += count
        size.packed_bytes += REAL_BYTES * count
        return
    if form.bits == 1:
        size.one_bit += count
    elif form.bits == 2:
        size.two_bit += count
    size.real += form.scales
    size.packed_bytes += -(-count * form.bits // 8) + REAL_BYTES * form.scales


def _forms(layer: BinaryLayer[Any]) -> dict[nn.Parameter, _Form]:
    """The parameters of a binary layer that are stored in bits."""
    found: dict[nn.Parameter, _Form] = {}
    for binarizer, weight, filters in _binarized(layer):
        spec = binarizer.spec
        none = spec.scale == "none" and spec.kind != "ternary"
        # A learned scale is a parameter that counts by itself.
        scales = 0 if none or binarizer.learned is not None else 1 if spec.scale_over == "layer" else filters
        if spec.transform == "search":
            found[binarizer.logits] = _Form(0)
        if spec.kind == "split":
            found[weight] = _Form(0)
            found[binarizer.first] = found[binarizer.second] = _Form(1, scales)
        else:
            # The packed projections of an attention are one parameter with several binarizers.
            before = found.get(weight, _Form(0)).scales
            found[weight] = _Form(2 if spec.kind == "ternary" else 1, before + scales)
    return found


def _binarized(layer: BinaryLayer[Any]) -> Iterator[tuple[WeightBinarizer, nn.Parameter, int]]:
    """Each weight binarizer of a layer, the parameter that it reads, and its number of filters."""
    for name, weight, binarizer in layer.latents():
        yield binarizer, layer.get_parameter(name), binarizer.filters_first(weight).shape[0]

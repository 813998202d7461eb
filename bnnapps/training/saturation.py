"""How much of what the binarizers of a network are given lies where no gradient passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.layers.base import PARTS, BinaryLayer
from bnnapps.nn.weights import WeightBinarizer

_OWN_RANGE = ("elastic", "uniform", "unit")
"""Scales of activations whose quantizer has its own range, in place of an estimator with a window."""


class Saturation:
    """Watches the binarizers of a network while it computes.

    Outside means: |x| > c for an estimator with a window of half-width c (1 for the smooth ones), beyond the lowest and
    highest level for a quantizer of several levels, and for a weight that is clipped after each step, on the bound.
    Weights with the gradient `identity` and no clipping have no window, and are left out.
    Binarizers go by names such as `layer1.0.conv1` (the activation of that layer) and `attention.query`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._counts: dict[tuple[str, str], tuple[Tensor, int]] = {}
        self._negative: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Begin to count, from nothing."""
        self._counts, self._negative = {}, {}
        for layer_name, name, binarizer in _binarizers(self._model):
            hook: Any
            if isinstance(binarizer, WeightBinarizer):
                hook = self._weight_hook(layer_name, binarizer)
                self._handles.append(binarizer.estimator.register_forward_pre_hook(hook))
            elif binarizer.spec.scale in _OWN_RANGE:
                self._handles.append(binarizer.register_forward_hook(self._range_hook(layer_name, name)))
            else:
                hook = self._activation_hook(layer_name, name, binarizer)
                self._handles.append(binarizer.estimator.register_forward_pre_hook(hook))

    def remove(self) -> None:
        """Stop; what was counted stays."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @property
    def attached(self) -> bool:
        """Whether it counts now."""
        return bool(self._handles)

    @property
    def activations(self) -> dict[str, float]:
        """By binarizer, the fraction outside."""
        return self._fractions("activation")

    @property
    def weights(self) -> dict[str, float]:
        """By layer, the fraction outside."""
        return self._fractions("weight")

    @property
    def all_positive(self) -> list[str]:
        """Layers with an activation whose every sign was +1."""
        return [name for name, negative in self._negative.items() if not bool(negative)]

    def _fractions(self, kind: str) -> dict[str, float]:
        return {name: int(out) / all_ for (of, name), (out, all_) in self._counts.items() if of == kind and all_}

    def _count(self, kind: str, name: str, outside: Tensor) -> None:
        before, all_before = self._counts.get((kind, name), (0, 0))
        self._counts[kind, name] = before + outside.sum(), all_before + outside.numel()

    def _weight_hook(self, layer: str, binarizer: WeightBinarizer) -> Any:
        spec = binarizer.spec
        clipped = spec.constraint != "none"

        @torch.no_grad()
        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            if clipped:
                self._count("weight", layer, args[0].abs() >= 1.0)
            elif spec.estimator.name != "identity":
                self._count("weight", layer, args[0].abs() > binarizer.estimator.window())

        return look

    def _activation_hook(self, layer: str, name: str, binarizer: ActivationBinarizer) -> Any:
        spec = binarizer.spec

        @torch.no_grad()
        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._count("activation", name, args[0].abs() > binarizer.estimator.window())
            if not spec.unsigned:
                self._look_for_negative(layer, args[0])

        return look

    def _range_hook(self, layer: str, name: str) -> Any:
        @torch.no_grad()
        def look(binarizer: ActivationBinarizer, args: tuple[Any, ...], output: Any) -> None:
            x = binarizer._shifted(args[0])
            low, high = _range(binarizer)
            self._count("activation", name, (x < low) | (x > high))
            if not binarizer.spec.unsigned:
                self._look_for_negative(layer, x)

        return look

    def _look_for_negative(self, layer: str, x: Tensor) -> None:
        found = (x < 0).any()
        self._negative[layer] = found if layer not in self._negative else self._negative[layer] & found


def _range(binarizer: ActivationBinarizer) -> tuple[Any, Any]:
    if binarizer.spec.scale == "unit":
        return 0.0, 1.0
    if binarizer.spec.scale == "uniform":
        return binarizer.low, binarizer.high
    low, high = binarizer.bounds
    return low * binarizer.alpha, high * binarizer.alpha


def _binarizers(model: nn.Module) -> Iterator[tuple[str, str, WeightBinarizer | ActivationBinarizer]]:
    """The layer's name, the binarizer's name within the network for people, and the binarizer."""
    for layer_name, layer in model.named_modules():
        if not isinstance(layer, BinaryLayer):
            continue
        parts = list(layer.get_submodule(PARTS).named_modules())
        seconds = {module.second for _, module in parts if isinstance(module, ActivationBinarizer)}
        for name, module in parts:  # the second sign of an activation reads what the first one leaves, not its input
            if isinstance(module, (WeightBinarizer, ActivationBinarizer)) and module not in seconds:
                own = name.removesuffix("activation").removesuffix(".")
                yield layer_name, ".".join(part for part in (layer_name, own) if part), module

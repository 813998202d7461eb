"""The binarizers of recurrent layers and of recurrent cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bnnapps.nn.codes import Codes, linear
from bnnapps.nn.functional.recurrent import States, walk
from bnnapps.nn.layers.base import Parts
from bnnapps.nn.layers.operands import LinearParts, codes_of
from bnnapps.nn.spec import LinearSpec
from bnnapps.nn.weights import WeightBinarizer

Bias = Tensor | None
Recurrence = Callable[[Tensor, Tensor, States], States]
"""The gate sums of the input, those of the hidden state, and the states, to the next states."""


class RecurrentParts(Parts):
    """Binarizers of each matrix of a recurrent layer, and of what it multiplies.

    Args:
        spec: of every product.
        weights: the latent weights by what follows `weight_` in their names: "ih_l0", "hh_l0_reverse", "hr_l1"; of a
            cell "ih" and "hh".

    """

    def __init__(self, spec: LinearSpec, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.products = nn.ModuleDict({key: LinearParts(spec, w, w.shape[1]) for key, w in weights.items()})

    def product(self, key: str) -> LinearParts:
        """The binarizers of one matrix."""
        parts = self.products[key]
        assert isinstance(parts, LinearParts)
        return parts

    def latents(self, layer: nn.Module) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The latent weights of the layer, each with its name and binarizer."""
        found = []
        for key in self.products:
            found += self.product(key).latent(f"weight_{key}", weight_of(layer, key))
        return found

    def constrain(self, layer: nn.Module) -> None:
        """Apply the constraints of the latent weights and of the learned scales."""
        for key in self.products:
            self.product(key).constrain(weight_of(layer, key))

    def deployed(self, layer: nn.Module) -> dict[str, Tensor]:
        """The weights as deployment has them, by name."""
        return {f"weight_{key}": self.product(key).deployed(weight_of(layer, key)) for key in self.products}

    def of_input(self, key: str, x: Tensor, weight: Tensor, bias: Bias) -> Tensor:
        """The gate sums of the inputs of all steps at once: (S, in) -> (S, gates * H)."""
        return linear(*self.product(key).operands(x, weight, offsets=True), bias)


class Hidden:
    """The product of one matrix with the hidden state, step by step; the weight is binarized once for all steps."""

    def __init__(self, parts: LinearParts, weight: Tensor, bias: Bias) -> None:
        self._activation = parts.activation
        # Kept as floats for the backward pass: once for all steps, where bits would be kept once for each.
        self._weight = codes_of(parts.weight, weight)._replace(kind="real")
        self._bias = bias

    def __call__(self, hidden: Tensor) -> Tensor:
        """(B, H) -> (B, rows of the weight)."""
        return linear(codes_of(self._activation, hidden), self._weight, self._bias)

    def calibrate(self, recur: Callable[[Callable[[Tensor], Tensor]], Tensor]) -> None:
        """Let a learned scale that waits for its first batch see the hidden states that follow from this one.

        The first hidden state of all is zero as a rule and says nothing; so the states are taken that the layer has as
        long as they meet the weight as real numbers. `recur` gives them for a product.
        """
        activation = self._activation
        if activation is None or not (activation.training and activation.needs_data):
            return

        def real(hidden: Tensor) -> Tensor:
            return linear(Codes(hidden), self._weight, self._bias)

        with torch.no_grad():
            activation(recur(real))


def run_direction(
    cell: Recurrence,
    inputs: list[Tensor],
    states: States,
    hidden: Hidden,
    project: Hidden | None,
    backwards: bool,
) -> tuple[Tensor, States]:
    """One layer in one direction: see `walk`. `project` makes an LSTM's hidden state smaller."""

    def recur(product: Callable[[Tensor], Tensor]) -> tuple[Tensor, States]:
        def step(x: Tensor, now: States) -> States:
            after = cell(x, product(now[0]), now)
            return after if project is None else (project(after[0]), *after[1:])

        return walk(step, inputs, states, backwards)

    hidden.calibrate(lambda product: recur(product)[0])
    return recur(hidden)


def weight_of(layer: nn.Module, key: str) -> Tensor:
    """The latent weight `weight_<key>`."""
    weight: Tensor = getattr(layer, f"weight_{key}")
    return weight


def bias_of(layer: nn.Module, key: str) -> Bias:
    """The bias `bias_<key>`, where the layer has one."""
    bias: Bias = getattr(layer, f"bias_{key}", None)
    return bias

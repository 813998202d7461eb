"""Losses of latent weights: how far they are from what their signs and scales stand for, and from two modes.

POEM: 1-bit Point-wise Operations based on Expectation-Maximization, Xu, Li, Zhao, Zhang, Guo, BMVC 2021. Its
lambda is the weight of `weight_reconstruction` (1e-4), its tau that of `weight_modes` (1e-3).
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.losses.hub import Loss, LossInputs, register_loss
from bnnapps.losses.layerwise import scale_of_filters
from bnnapps.nn import functional as BF
from bnnapps.nn.layers.conv import _BinaryConv
from bnnapps.nn.layers.linear import BinaryLinear
from bnnapps.validation import Record


class ModesOptions(Record):
    """Options of the loss `weight_modes`."""

    rounds: int = Field(default=1, ge=1)
    """Of expectation and maximization, in every step anew."""


def layers_with_latent_weights(model: nn.Module) -> tuple[nn.Module, ...]:
    """The binary convolutions and linear layers of a network whose codes are the signs of a weight, in order."""
    found = []
    for module in model.modules():
        if isinstance(module, (_BinaryConv, BinaryLinear)):
            binarizer = module.binary.weight
            if binarizer is not None and binarizer.spec.kind == "binary" and binarizer.spec.scale != "affine":
                found.append(module)
    return tuple(found)


def reconstruction(weight: Tensor, scale: Tensor) -> Tensor:
    """1/2 ||W - alpha sign(W)||^2, alpha one a filter, (O, 1, ...).

    Gradients: W - alpha sign(W) for W, since the sign takes none; -sum sign(W) (W - alpha sign(W)) for alpha.
    """
    return (weight - scale * BF.sign(weight.detach())).square().sum() / 2


def distance_from_modes(weight: Tensor, rounds: int = 1) -> Tensor:
    """1/2 sum_j sum_k xi_jk (w_j - mu_k)^2 over the weights between both means.

    Its gradient is sum_k xi_jk (w_j - mu_k), of which the paper prints the negative. The two Gaussians
    (`bnnapps.nn.functional.two_modes`) are those of the whole weight, and constants. What lies between their means is
    drawn towards them, so that the weights part into two modes, away from 0, where noise would turn their signs; the
    rest is free.
    """
    modes = BF.two_modes(weight, rounds)
    if modes is None:
        return weight.sum() * 0
    flat = weight.flatten()
    between = ((flat > modes.means[0]) & (flat < modes.means[1])).detach()
    apart = (flat[:, None] - modes.means).square() * modes.shares
    return (apart.sum(dim=1) * between).sum() / 2


def _layers(inputs: LossInputs, term: str) -> tuple[Any, ...]:
    if not inputs.latent:
        raise UsageError(
            f"the loss '{term}' reads the weights of binary layers, and the network has none: drop it in this stage"
        )
    return inputs.latent


def reconstruction_loss(inputs: LossInputs) -> Tensor:
    """`reconstruction`, summed over layers; a scale that is not learned is a constant."""
    layers = _layers(inputs, "weight_reconstruction")
    return torch.stack([reconstruction(layer.weight, scale_of_filters(layer)) for layer in layers]).sum()


def modes_loss(inputs: LossInputs, options: ModesOptions) -> Tensor:
    """`distance_from_modes`, summed over layers."""
    layers = _layers(inputs, "weight_modes")
    return torch.stack([distance_from_modes(layer.weight, options.rounds) for layer in layers]).sum()


for _loss in (
    Loss(
        "weight_reconstruction",
        reconstruction_loss,
        "half the squared distance of W and alpha sign(W), summed over binary layers (POEM)",
        latent=True,
    ),
    Loss(
        "weight_modes",
        modes_loss,
        "half the squared distance of the weights between two modes from them, summed over binary layers (POEM)",
        options=ModesOptions,
        latent=True,
    ),
):
    register_loss(_loss)

"""Bop: an optimizer of binary weights that has no learning rate and needs no latent magnitudes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnnapps.errors import UsageError


def bop_step(weight: Tensor, average: Tensor, gradient: Tensor, gamma: float, threshold: float) -> None:
    """One step of Bop, in place (Helwegen et al., "Latent Weights Do Not Exist", NeurIPS 2019).

    m <- (1 - gamma) m + gamma g, and then w <- -w where s m > threshold, with s = sign(w) (sign(0) = +1): a weight
    flips when the averaged gradient has its sign and is large. |w| never changes, but for a stored 0, which stands for
    +1 and becomes -1. NaN in m flips nothing.

    Args:
        weight: w, of any shape; its sign is the binary weight.
        average: m, of the same shape and dtype.
        gradient: g, of the same shape, with respect to the binary weight.
        gamma: how much of the average each gradient replaces, 0 to 1.
        threshold: not negative, in units of the gradient.

    """
    average.lerp_(gradient.to(average.dtype), gamma)
    flips = torch.where(weight >= 0, average, -average) > threshold
    weight.copy_(torch.where(flips, torch.where(weight == 0, -1.0, -weight), weight))


class Bop(torch.optim.Optimizer):
    """Flips a binary weight when an average of its gradients says so, often enough and clearly enough.

    For weights whose sign is what the layer multiplies with, and whose gradient passes the sign unchanged. The other
    parameters of a network (first and last layer, BatchNorm) need an optimizer of their own: in a recipe,
    `groups: [{of: latent, optimizer: bop, gamma: 1e-4, threshold: 1e-8}]`. Published for CIFAR-10: gamma 1e-4, times
    0.1 every 100 of 500 epochs, threshold 1e-8; for ImageNet gamma from 1e-4 to 1e-6, linearly. The threshold is in
    units of the gradient, so whatever scales gradients (clipping their norm, a loss that is a sum) changes it too.

    Helwegen, Widdicombe, Geiger, Liu, Cheng, Nusselder: Latent Weights Do Not Exist, NeurIPS 2019.

    Args:
        params: weights, or groups of them with their own `gamma` and `threshold`.
        gamma: the adaptivity rate, above 0 to 1; a schedule may change it in `param_groups`, also to 0.
        threshold: not negative.

    Raises:
        UsageError: gamma or threshold is out of range.

    """

    def __init__(self, params: Any, gamma: float = 1e-4, threshold: float = 1e-8) -> None:
        super().__init__(params, {"gamma": gamma, "threshold": threshold})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take further weights, after checking their numbers."""
        settings = self.defaults | param_group
        if not 0.0 < settings["gamma"] <= 1.0:
            raise UsageError(f"Bop: gamma is {settings['gamma']}: it must lie above 0 and be at most 1")
        if not settings["threshold"] >= 0.0:
            raise UsageError(f"Bop: threshold is {settings['threshold']}: it must not be negative")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Average the gradients and flip weights; a weight without a gradient is left alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight.grad.is_sparse:
                    raise UsageError("Bop: a sparse gradient cannot be averaged: set sparse=False in the embedding")
                state = self.state[weight]
                if not state:
                    state["m"] = torch.zeros_like(weight)
                bop_step(weight, state["m"], weight.grad, group["gamma"], group["threshold"])
        return loss

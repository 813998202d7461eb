"""Rectified clamp units: latent weights far from zero are pulled back (ReCU, Xu et al., ICCV 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FIRST, _LAST = 0.85, 0.99


def standardize_to_laplace(w: Tensor) -> Tensor:
    """2 sqrt(2) (w - mean) / sqrt(var + 1e-5) over each filter: deviation 2 sqrt(2), as a Laplace law of width 2.

    The variance is the unbiased one; of a filter of one element it is 0.
    """
    dims = tuple(range(1, w.dim()))
    centred = w - w.mean(dim=dims, keepdim=True)
    many = math.prod(w.shape[1:]) > 1
    variance = w.var(dim=dims, keepdim=True, correction=1) if many else torch.zeros_like(centred)
    return centred * (2 * math.sqrt(2)) / torch.sqrt(variance + 1e-5)


def standardize_samples(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x / sqrt(var + 1e-5) over `dims`, the unbiased variance; x itself where `dims` hold a single element."""
    if math.prod(x.shape[d] for d in dims) <= 1:
        return x
    return x / torch.sqrt(x.var(dim=dims, keepdim=True) + 1e-5)


def laplace_quantile(w: Tensor, tau: float | Tensor) -> Tensor:
    """-mean|w| ln(2 - 2 tau) over the layer: the tau-quantile of a Laplace law of that width. No gradient."""
    outside = torch.as_tensor(2 - 2 * tau, device=w.device, dtype=w.dtype)
    return -w.detach().abs().mean() * torch.log(outside)


def rectified(w: Tensor, tau: float | Tensor) -> Tensor:
    """Standardized w, clamped to its quantiles of tau and 1 - tau; the clamp stops the gradient outside."""
    w = standardize_to_laplace(w)
    limit = laplace_quantile(w, tau)
    return torch.maximum(torch.minimum(w, limit), -limit)


def tau_schedule(fraction: float) -> float:
    """A e^f + B, from 0.85 at the start of the training (f = 0) to 0.99 at its end."""
    a = (_LAST - _FIRST) / (math.e - 1)
    return a * math.exp(fraction) + _FIRST - a

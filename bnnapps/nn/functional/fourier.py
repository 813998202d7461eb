"""The Fourier series of the sign as its gradient (FDA-BNN, Xu et al., NeurIPS 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bnnapps.nn.functional.levels import grid
from bnnapps.nn.functional.sign import Derivative, sign, weighted_sign


def fourier_derivative(x: Tensor, n: int | Tensor, omega: float = 0.1) -> Tensor:
    """(4 w / pi) sum over i = 0..n of cos((2i + 1) w x), where |x| <= 1; else 0.

    The sum is sin(2 (n + 1) w x) / (2 sin(w x)), and n + 1 where sin(w x) is 0. With w = 0.1 it is negative beyond
    |x| = pi / (2 (n + 1) w): from n = 15 on inside the window.
    """
    angle = omega * x
    bottom = 2 * torch.sin(angle)
    flat = bottom.abs() < 1e-6  # the quotient of two rounding errors says nothing
    series = torch.where(
        flat, (n + 1) * torch.ones_like(x), torch.sin(2 * (n + 1) * angle) / bottom.masked_fill(flat, 1)
    )
    return (4 * omega / math.pi) * series.masked_fill_(x.abs() > 1, 0)


def fourier_terms(fraction: float, first: int = 9, last: int = 18) -> int:
    """The number n at the given fraction of the training: `first` at its start, `last` at its end, whole steps."""
    return first + math.floor((last - first) * fraction)


def noise_weight(fraction: float) -> float:
    """What the noise of FDA is multiplied by: 0.05 (1 + cos(pi f)), 0.1 at the start and 0 at the end."""
    return 0.05 * (1 + math.cos(math.pi * fraction))


def sign_fourier(
    x: Tensor, n: int | Tensor, omega: float = 0.1, forward: Derivative = sign, keep_bits: int | None = None
) -> Tensor:
    """sign(x) with the truncated Fourier series of its derivative as gradient.

    Keeps x, or `keep_bits` (2 to 4) bits of the multiplier: at most (4 w / pi) (n + 1), at least -0.218 times that.
    """
    levels = None if keep_bits is None else grid(keep_bits, (4 * omega / math.pi) * (n + 1), negative=0.218)
    return weighted_sign(x, lambda v: fourier_derivative(v, n, omega), forward, levels)

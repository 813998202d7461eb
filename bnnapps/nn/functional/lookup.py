"""Arithmetic of lookup tables: Boolean functions of n inputs as 2^n entries, and gradients through them.

A code is -1 or +1 and stands for the bit 0 or 1; input j of a table is bit j of its address.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

Neighbours = Literal["inverse", "geometric"]


def addresses(codes: Tensor) -> Tensor:
    """sum_j 2^j [x_j >= 0]: (..., n) of codes (or of real numbers, whose sign counts) to int64 (...)."""
    powers = torch.tensor([1 << j for j in range(codes.shape[-1])], device=codes.device)
    return ((codes >= 0) * powers).sum(dim=-1)


def entries_at(table: Tensor, address: Tensor) -> Tensor:
    """Entry `address[..., o]` of table o: table (O, 2^n), address (..., O) -> (..., O)."""
    first = torch.arange(table.shape[0], device=table.device) * table.shape[1]
    return table.reshape(-1)[address + first]


def interpolated(x: Tensor, table: Tensor) -> Tensor:
    """The table between its entries: sum_k table[o, k] prod_j (1 + (2 k_j - 1) x_j) / 2, which is exact at codes.

    Args:
        x: (..., O, n), between -1 and 1.
        table: (O, 2^n).

    Returns:
        (..., O): the mean of the entry where input j is +1 with probability (1 + x_j) / 2, independently.

    """
    value = table.expand(*x.shape[:-1], table.shape[-1])
    for j in reversed(range(x.shape[-1])):
        low, high = value.chunk(2, dim=-1)
        p = (1 + x[..., j : j + 1]) / 2
        value = low + (high - low) * p
    return value.squeeze(-1)


def finite_differences(table: Tensor, neighbours: Neighbours = "inverse") -> Tensor:
    """The extended finite difference of every table at every address (Bacellar et al., ICML 2024).

    D[o, a, j] = sum_k (2 k_j - 1) w(H_j(k, a)) table[o, k], where H_j is the number of bits other than j in which the
    addresses k and a differ. `inverse`, as published: w(h) = 1 / (h + 1). `geometric`, as in the authors' library:
    w(h) = (3/4)^(n-1-h) (1/4)^h / 2, which is the slope of `interpolated` where the other inputs are -1/2 and +1/2.

    Args:
        table: (O, 2^n).
        neighbours: w.

    Returns:
        (O, 2^n, n).

    """
    size = table.shape[-1]
    kernel = _difference_kernel(size.bit_length() - 1, neighbours).to(table)
    return (table @ kernel).view(table.shape[0], size, -1)


@cache
def _difference_kernel(n: int, neighbours: Neighbours) -> Tensor:
    """(2^n, 2^n * n): what entry k gives to D[a, j]."""
    k = torch.arange(1 << n).view(-1, 1, 1)
    a = torch.arange(1 << n).view(1, -1, 1)
    j = torch.arange(n).view(1, 1, -1)
    differs = (k ^ a) & ~(1 << j)
    distance = sum(((differs >> i) & 1 for i in range(n)), torch.zeros_like(differs)).double()
    weight = 1 / (distance + 1) if neighbours == "inverse" else 0.5 * 0.75 ** (n - 1 - distance) * 0.25**distance
    sign = 2 * ((k >> j) & 1) - 1
    return (sign * weight).view(1 << n, -1)


def spectrum(table: Tensor) -> Tensor:
    """The Walsh-Hadamard coefficients of each table: c[o, s] = 2^-n sum_k table[o, k] prod_{j in s} (2 k_j - 1).

    With them table[o, k] = sum_s c[o, s] prod_{j in s} x_j: bit j of s says whether input j is a factor.
    """
    size = table.shape[-1]
    value = table.reshape(-1, size)
    step = 1
    while step < size:
        pairs = value.view(len(value), -1, 2, step)
        low, high = pairs[:, :, 0], pairs[:, :, 1]
        value = torch.stack([low + high, high - low], dim=2).reshape(len(value), size)
        step *= 2
    return value.view(table.shape) / size


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, latent: Tensor, neighbours: Neighbours, pull: float) -> Tensor:
        place = addresses(x) + torch.arange(len(codes), device=codes.device) * codes.shape[1]
        ctx.save_for_backward(place, latent)
        ctx.neighbours, ctx.pull, ctx.inputs = neighbours, pull, x.shape[-1]
        return codes.reshape(-1)[place]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        place, latent = ctx.saved_tensors
        to_x = to_codes = None
        if ctx.needs_input_grad[0]:
            slopes = finite_differences(latent, ctx.neighbours).view(-1, ctx.inputs)
            to_x = slopes[place] * grad.unsqueeze(-1)
        if ctx.needs_input_grad[1]:
            flat = torch.zeros(latent.numel(), device=grad.device, dtype=grad.dtype)
            flat.index_add_(0, place.reshape(-1), grad.reshape(-1))
            to_codes = flat.view_as(latent)
            if ctx.pull:
                to_codes += ctx.pull * spectral_slope(latent)
        return to_x, to_codes, None, None, None


def looked_up(
    x: Tensor, codes: Tensor, latent: Tensor, neighbours: Neighbours = "inverse", spectral: float = 0.0
) -> Tensor:
    """The entry of each table at the signs of its inputs, with gradients for inputs and entries.

    With G the gradient of the result: input j of table o gets G[o] D[o, a, j] with D the `finite_differences` of the
    latent table at the address a; the entry that was read gets G[o], every other one nothing. `spectral` adds the
    gradient of `spectral` times `spectral_norm(latent)` to that of the entries, once a backward pass.

    Args:
        x: (..., O, n).
        codes: (O, 2^n), what is read.
        latent: (O, 2^n), what slopes are taken of; it gets no gradient.
        neighbours: as in `finite_differences`.
        spectral: a factor.

    Returns:
        (..., O).

    """
    found: Tensor = _Lookup.apply(x, codes, latent.detach(), neighbours, spectral)  # type: ignore[no-untyped-call]
    return found


def spectral_norm(table: Tensor) -> Tensor:
    """The root of the sum of all squared `spectrum` coefficients of a layer (Bacellar et al., ICML 2024).

    By Parseval's identity it is 2^(-n/2) times the root of the sum of the squared entries.
    """
    return spectrum(table).square().sum().sqrt()


def spectral_slope(table: Tensor) -> Tensor:
    """The gradient of `spectral_norm`; 0 for tables of zeros."""
    norm = table.square().sum().sqrt()
    found: Tensor = table / (norm.clamp(min=torch.finfo(table.dtype).tiny) * table.shape[-1] ** 0.5)
    return found


class _Chosen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scores: Tensor) -> Tensor:
        wires = scores.argmax(dim=-1)
        ctx.save_for_backward(x, wires)
        return x[:, wires]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        x, wires = ctx.saved_tensors
        flat = grad.reshape(len(grad), -1)
        to_x = to_scores = None
        if ctx.needs_input_grad[0]:
            to_x = torch.zeros_like(x.t()).index_add_(0, wires.reshape(-1), flat.t()).t()
        if ctx.needs_input_grad[1]:
            to_scores = (flat.t() @ x).view(*wires.shape, -1)
        return to_x, to_scores


def chosen(x: Tensor, scores: Tensor) -> Tensor:
    """For each input of each table the feature of the largest score: learnable mapping (Bacellar et al., ICML 2024).

    The forward pass takes x[:, argmax]; the backward pass gives score i the product of feature i and the gradient of
    the chosen input, summed over the batch, as if the result were sum_i score_i x_i, and x what its chosen places got.

    Args:
        x: codes, (N, I).
        scores: (O, n, I).

    Returns:
        (N, O, n).

    """
    found: Tensor = _Chosen.apply(x, scores)  # type: ignore[no-untyped-call]
    return found

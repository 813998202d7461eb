"""Edges of binary features: XOR in place of a difference."""

from __future__ import annotations

import torch
from torch import Tensor


def xor(a: Tensor, b: Tensor) -> Tensor:
    """-a b, which for -1 and +1 is +1 where a and b differ and -1 where they are equal (Bahri et al., CVPR 2021).

    Differentiable: dL/da = -b G. For values between, it is the relaxed XOR that a network trains with before its signs.
    """
    return -a * b


def gathered(x: Tensor, index: Tensor) -> Tensor:
    """The features of the chosen neighbours: (B, N, C) and (B, N, k) to (B, N, k, C)."""
    batch, points, channels = x.shape
    flat = (index + torch.arange(batch, device=x.device)[:, None, None] * points).flatten()
    return x.reshape(batch * points, channels)[flat].view(*index.shape, channels)


def edge_features(x: Tensor, index: Tensor, binary: bool) -> Tensor:
    """[x_j - x_i, x_i] of each edge, or [xor(x_j, x_i), x_i]: (B, N, C) and (B, N, k) to (B, N, k, 2 C)."""
    others = gathered(x, index)
    own = x[:, :, None].expand_as(others)
    return torch.cat([xor(others, own) if binary else others - own, own], dim=-1)

"""Two Gaussians in the values of a weight, found by expectation and maximization."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_TINY = 1e-12


class TwoModes(NamedTuple):
    """Means and variances (2,), the lower mean first, and to which share each value belongs to either, (N, 2)."""

    means: Tensor
    variances: Tensor
    shares: Tensor


@torch.no_grad()
def two_modes(values: Tensor, rounds: int = 1) -> TwoModes | None:
    """The mixture beta_1 N(mu_1, v_1) + beta_2 N(mu_2, v_2) of all values of a tensor.

    It starts at means, variances and shares of the negative and of the other values. A round is
    xi_jk = beta_k N(w_j; mu_k, v_k) / sum over k, then mu_k = sum_j xi_jk w_j / sum_j xi_jk, v_k likewise from
    (w_j - mu_k)^2, beta_k the mean of xi_jk. The shares are those of the last round.

    Returns `None` for values of one sign alone, which have no second mode.

    POEM: Xu, Li, Zhao, Zhang, Guo, BMVC 2021.

    """
    flat = values.flatten().double()
    shares = torch.stack([flat < 0, flat >= 0], dim=1).double()
    if not shares.any(dim=0).all():
        return None
    means, variances, weights = _maximized(flat, shares)
    for _ in range(rounds):
        spread = variances.clamp(min=_TINY)
        logs = weights.clamp(min=_TINY).log() - spread.log() / 2 - (flat[:, None] - means).square() / (2 * spread)
        shares = logs.softmax(dim=1)
        means, variances, weights = _maximized(flat, shares)
    order = means.argsort()
    return TwoModes(*(t.to(values.dtype) for t in (means[order], variances[order], shares[:, order])))


def _maximized(flat: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means, variances and shares of the two parts."""
    sizes = shares.sum(dim=0).clamp(min=_TINY)
    means = (shares * flat[:, None]).sum(dim=0) / sizes
    variances = (shares * (flat[:, None] - means).square()).sum(dim=0) / sizes
    return means, variances, sizes / len(flat)

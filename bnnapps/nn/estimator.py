"""The sign with its gradient, as a module that follows the training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.nn import functional as BF
from bnnapps.nn.functional.elastic import SMALLEST_SCALE
from bnnapps.nn.functional.sign import Derivative
from bnnapps.nn.progress import Scheduled
from bnnapps.nn.spec import EstimatorSpec


class SignEstimator(nn.Module, Scheduled):
    """sign(x) forward (or the step function), one of the estimators of `bnnapps.nn.functional.sign` backward.

    `ede` keeps its k and t, and `fourier` its n, in buffers, so that they are saved; `set_progress` moves them. `lpb`
    has a parameter, `slope` (1,), 1 at the start.
    """

    k: Tensor
    t: Tensor
    n: Tensor
    slope: nn.Parameter

    def __init__(self, spec: EstimatorSpec, device: torch.device | None = None) -> None:
        super().__init__()
        self.spec = spec
        if spec.name == "lpb":
            self.slope = nn.Parameter(torch.ones(1, device=device))
        if spec.name == "ede":
            k, t = BF.ede_schedule(0.0, spec.t_min, spec.t_max)
            self.register_buffer("k", torch.tensor(k, device=device))
            self.register_buffer("t", torch.tensor(t, device=device))
        if spec.name == "fourier":
            self.register_buffer("n", torch.tensor(spec.terms[0], device=device))

    def set_progress(self, fraction: float) -> None:
        """Move k and t of `ede`, and n of `fourier`, to the given fraction of training."""
        if self.spec.name == "ede":
            k, t = BF.ede_schedule(fraction, self.spec.t_min, self.spec.t_max)
            self.k.fill_(k)
            self.t.fill_(t)
        if self.spec.name == "fourier":
            self.n.fill_(BF.fourier_terms(fraction, *self.spec.terms))

    def forward(self, x: Tensor, codes: Derivative = BF.sign) -> Tensor:
        """The codes of x: `codes` is `sign` or `step`."""
        spec = self.spec
        if spec.name == "identity":
            return BF.sign_identity(x, codes)
        if spec.name == "clip":
            return BF.sign_clip(x, spec.limit, codes)
        if spec.name == "polynomial":
            return BF.sign_polynomial(x, codes, spec.keep_bits)
        if spec.name == "swish":
            return BF.sign_swish(x, spec.beta, codes, spec.keep_bits)
        if spec.name == "lpb":
            return BF.sign_lpb(x, self.slope, codes)
        if spec.name == "fourier":
            return BF.sign_fourier(x, self.n, spec.omega, codes, spec.keep_bits)
        return BF.sign_ede(x, self.k, self.t, codes, spec.keep_bits)

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep `slope` positive (after an optimizer step), so that it turns no sign round."""
        if self.spec.name == "lpb":
            self.slope.clamp_(min=SMALLEST_SCALE)

    def window(self) -> Tensor | float:
        """Beyond which |x| there is no gradient; 1 for estimators that have none, or fade."""
        if self.spec.name == "lpb":
            return 1 / self.slope.detach()
        return self.spec.limit if self.spec.name == "clip" else 1.0

    def extra_repr(self) -> str:
        """The estimator's name."""
        return self.spec.name

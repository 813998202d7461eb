"""The deployed form of an activation binarizer: one operand of a product, as explicit primitive operators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.export.graph.mark import mark
from bnnapps.nn import functional as BF
from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.functional.elastic import SMALLEST_SCALE


class Quantizer(nn.Module):
    """x -> x + shift -> codes, as `ActivationBinarizer` computes them, without its gradients.

    Codes +1 and -1 are Where(x >= 0, 1, -1); codes 1 and 0 are Where(x >= threshold, 1, 0); several bits are
    clip(floor(x / alpha + 1/2)), or floor(L clip(x, 0, 1) + 1/2) (DoReFa). Two learned levels (AdaBin) are told apart
    by (x - beta) / alpha >= 0. A binarizer of `None` passes a real operand on.

    Attributes:
        site: the name of this operand in the exported file.
        largest: the largest |code|, or `None` where the values are real.

    """

    shift: Tensor | None
    alpha: Tensor | None
    beta: Tensor | None
    low: Tensor | None
    high: Tensor | None

    def __init__(self, site: str, binarizer: ActivationBinarizer | None) -> None:
        super().__init__()
        self.site = site
        self.spec = None if binarizer is None else binarizer.spec
        self.largest: int | None = None
        self.threshold = 0.0
        for name in ("shift", "alpha", "beta", "low", "high"):
            self.register_buffer(name, None)
        if binarizer is None:
            return
        spec = binarizer.spec
        self.bounds = binarizer.bounds
        if spec.scale != "uniform":
            self.largest = max(abs(bound) for bound in self.bounds)
        if spec.shift == "channel":
            shape = [1] * -binarizer.channel_dim
            shape[0] = -1
            self.shift = binarizer.shift.detach().clone().view(shape)
        if spec.scale == "elastic":
            self.alpha = binarizer.alpha.detach().clamp(min=SMALLEST_SCALE)
            if spec.unsigned and spec.bits == 1:
                self.threshold = step_threshold(self.alpha)
        if spec.scale == "affine":
            self.alpha, self.beta = binarizer.alpha.detach().clone(), binarizer.beta.detach().clone()
        if spec.scale == "unit":
            self.threshold = 0.5
            if spec.bits > 1:
                self.alpha = torch.full((1,), 1 / self.bounds[1])
        if spec.scale == "uniform":
            self.low, self.high = binarizer.low.detach().clone(), binarizer.high.detach().clone()

    @property
    def exact(self) -> bool:
        """Whether the values are codes; else they are real."""
        return self.largest is not None

    @property
    def quantizes(self) -> bool:
        """Whether the operand is quantized at all."""
        return self.spec is not None

    @property
    def one_bit(self) -> bool:
        """Whether there are two codes, so that one comparison makes them."""
        return self.spec is not None and self.spec.bits == 1

    def forward(self, x: Tensor) -> Tensor:
        """The codes of x."""
        if self.spec is None:
            return x
        x = mark(x, self.site, "input")
        return mark(self._codes(x if self.shift is None else x + self.shift), self.site, "codes")

    def _codes(self, x: Tensor) -> Tensor:
        spec = self.spec
        assert spec is not None
        if spec.scale == "uniform":
            assert self.low is not None
            assert self.high is not None
            return BF.clipped_uniform(x, self.low, self.high, spec.bits, spec.unsigned)
        if spec.scale == "affine":
            assert self.alpha is not None
            assert self.beta is not None
            x = (x - self.beta) / self.alpha
        if spec.scale == "unit" and spec.bits > 1:
            return BF.unit_levels(x, spec.bits)
        if spec.bits > 1:
            assert self.alpha is not None
            return ((x / self.alpha) + 0.5).floor().clamp(*self.bounds)
        return torch.where(x >= self.threshold, 1.0, 0.0 if spec.unsigned else -1.0)

    def row_scale(self, x: Tensor) -> Tensor | None:
        """The scale of a linear layer's operand: alpha, or the mean |x + shift| of each row (XNOR-Net), or none.

        `sample`: the mean |x + shift| of each sample.
        """
        if self.spec is not None and self.spec.scale == "sample":
            return self._magnitude(x).mean(dim=tuple(range(1, x.dim())), keepdim=True)
        if self.spec is not None and self.spec.scale == "input_map":
            return self._magnitude(x).mean(dim=-1, keepdim=True)
        return self.alpha

    def _magnitude(self, x: Tensor) -> Tensor:
        return (x if self.shift is None else x + self.shift).abs()

    def extra_repr(self) -> str:
        """The site."""
        return self.site


def step_threshold(alpha: Tensor) -> float:
    """The smallest float32 x with floor(x / alpha + 1/2) >= 1 in float32 arithmetic: at or just under alpha / 2.

    The quotient and the sum are rounded, and both roundings are monotonic, so one comparison x >= threshold gives the
    same code as the formula for every x.

    Args:
        alpha: shape (1,), positive.

    """
    limit = alpha / 2
    down, up = torch.full_like(alpha, -torch.inf), torch.full_like(alpha, torch.inf)
    while not _is_one(limit, alpha):
        limit = torch.nextafter(limit, up)
    while _is_one(below := torch.nextafter(limit, down), alpha):
        limit = below
    return float(limit)


def _is_one(x: Tensor, alpha: Tensor) -> bool:
    return bool(torch.floor(x / alpha + 0.5) >= 1)

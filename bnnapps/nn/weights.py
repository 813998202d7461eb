"""Latent weight in, codes and scale out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bnnapps.nn import functional as BF
from bnnapps.nn.codes import Codes
from bnnapps.nn.estimator import SignEstimator
from bnnapps.nn.functional.elastic import SMALLEST_SCALE
from bnnapps.nn.noise import FilterNoise
from bnnapps.nn.progress import Scheduled
from bnnapps.nn.spec import WeightSpec


class LearnedScale(nn.Module):
    """One learned number for each filter of a weight, shape (O, 1, ...).

    `learned`: alpha, from the mean |W| on and kept positive (LWS-Det, Xu et al., CVPR 2021). `amplitude`: a from
    N(0, 1), of which u |a| multiplies the signs (ASDA, Xu et al., EMDL 2020).
    """

    def __init__(self, spec: WeightSpec, weight: Tensor) -> None:
        super().__init__()
        self.spec = spec
        first = _start(weight)
        self.amplitude = nn.Parameter(torch.randn_like(first) if spec.scale == "amplitude" else first)

    def scale(self) -> Tensor:
        """What multiplies the codes, no gradient."""
        amplitude = self.amplitude.detach()
        return BF.positive(self.spec.amplitude_unit * amplitude.abs() if self.spec.scale == "amplitude" else amplitude)

    def scaled(self, codes: Tensor, kind: Literal["sign", "real"]) -> Codes:
        """The codes, through which the number gets its gradient, with the scale."""
        return Codes(BF.learned_scale(codes, self.amplitude) if torch.is_grad_enabled() else codes, self.scale(), kind)

    def shared(self, weight: Tensor) -> Codes:
        """Signs and scale of a weight that shares its amplitude with them."""
        spec = self.spec
        codes = BF.shared_amplitude(weight, self.amplitude, spec.amplitude_unit, spec.amplitude_pull)
        return Codes(codes, self.scale(), "sign")

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep alpha positive; an amplitude of ASDA may have any sign."""
        if self.spec.scale == "learned":
            self.amplitude.clamp_(min=SMALLEST_SCALE)

    @torch.no_grad()
    def start_from(self, weight: Tensor) -> None:
        """Begin at the mean |W| again; amplitudes are not made from the weight."""
        if self.spec.scale == "learned":
            self.amplitude.copy_(_start(weight))


def _start(weight: Tensor) -> Tensor:
    return BF.mean_abs(weight.detach(), "filter").clamp(min=SMALLEST_SCALE)


class WeightBinarizer(nn.Module, Scheduled):
    """W -> transform -> sign -> scale, by the given record; the latent weight W stays outside.

    A split weight (BinaryBERT, Bai et al., 2021) has parameters of its own: `first` and `second`, made from W
    so that their binary versions sum to its ternary version; W itself then rests. So it does where signs are searched
    for (LWS-Det, Xu et al., 2021), with `logits` of their own; in training such codes are real, their expectations.

    Shapes: any; dimension 0 holds the filters. The scale has size 1 on every other dimension.

    Args:
        spec: which parts.
        weight: the latent weight, for its size, device and (if split) its values.

    """

    first: nn.Parameter
    second: nn.Parameter
    logits: nn.Parameter
    tau: Tensor
    learned: LearnedScale | None

    def __init__(self, spec: WeightSpec, weight: Tensor) -> None:
        super().__init__()
        self.spec = spec
        self.estimator = SignEstimator(spec.estimator, weight.device).requires_grad_(weight.requires_grad)
        if spec.transform == "recu":
            self.register_buffer("tau", torch.tensor(BF.tau_schedule(0.0), device=weight.device))
        self.noise = FilterNoise(weight).requires_grad_(weight.requires_grad) if spec.noise else None
        self.learned = None
        if spec.scale in ("learned", "amplitude"):
            self.learned = LearnedScale(spec, weight).requires_grad_(weight.requires_grad)
        if spec.transform == "search":
            logits = BF.search_logits(weight, spec.search_start)
            self.logits = nn.Parameter(logits, requires_grad=weight.requires_grad)
        if spec.kind == "split":
            first, second = BF.split_ternary(weight, spec.scale_over)
            self.first = nn.Parameter(first, requires_grad=weight.requires_grad)
            self.second = nn.Parameter(second, requires_grad=weight.requires_grad)

    @property
    def gives_signs(self) -> bool:
        """Whether the codes of the moment are +1 and -1, and one scale all that goes with them."""
        spec = self.spec
        moves = self.training and (spec.noise or spec.transform == "search")
        return spec.kind == "binary" and spec.scale != "affine" and not moves

    def filters_first(self, weight: Tensor) -> Tensor:
        """The weight with one filter an entry of dimension 0: as it is, but for transposed convolutions."""
        return weight

    def forward(self, weight: Tensor, whole: Tensor | None = None, noisy: bool = True) -> Codes:
        """Codes and scale of the weight; a split weight comes as the real sum of its two binary weights.

        `whole`: where `weight` holds only some of the filters (the looked-up rows of an embedding), the tensor that
        statistics of the layer are taken from. `noisy`: with the noise of FDA, in training.
        """
        if self.spec.kind == "ternary":
            return Codes(*BF.ternary(weight, self.spec.scale_over, whole), "integer")
        if self.spec.kind == "split":
            return Codes(self.scaled(self.first) + self.scaled(self.second))
        return self.binary(weight, whole, noisy)

    def binary(self, weight: Tensor, whole: Tensor | None = None, noisy: bool = True) -> Codes:
        """Codes +1 and -1, and scale, of a latent weight."""
        whole = weight if whole is None else whole
        if self.spec.scale == "affine":
            return self._affine(weight)
        if self.learned is not None and self.spec.scale == "amplitude":
            return self.learned.shared(weight)
        transformed = self._transform(weight, whole)
        searched = self.spec.transform == "search" and self.training and noisy
        codes = BF.expected_sign(self.logits) if searched else self.estimator(transformed)
        kind: Literal["sign", "real"] = "real" if searched else "sign"
        if self.learned is not None:
            return self.learned.scaled(codes, kind)
        scale = self._scale(weight, transformed, whole)
        if searched:
            return Codes(codes, scale, kind)
        if scale is not None and torch.is_grad_enabled() and codes.requires_grad:
            if self.spec.scale_gradient == "straight":
                codes = BF.unscaled(codes, scale)
            elif self.spec.scale_gradient == "full":
                codes = BF.product_rule(codes, weight if self.spec.scale_of == "latent" else transformed, scale)
        if self.noise is not None and noisy and self.training:
            return Codes(codes + self.noise(weight), scale)
        return Codes(codes, scale, "sign")

    def _affine(self, weight: Tensor) -> Codes:
        """Levels mean - deviation and mean + deviation; the gradient runs through both statistics."""
        mean = weight.mean(dim=tuple(range(1, weight.dim())), keepdim=True)
        half = BF.deviation(weight)
        return Codes(self.estimator((weight - mean) / half), half, "sign", mean)

    def set_progress(self, fraction: float) -> None:
        """Move the quantile of ReCU to the given fraction of training."""
        if self.spec.transform == "recu":
            self.tau.fill_(BF.tau_schedule(fraction))

    def scaled(self, weight: Tensor) -> Tensor:
        """scale * code of a latent weight, with the gradient of the estimator."""
        return self.binary(weight).values()

    @torch.no_grad()
    def transformed(self, weight: Tensor) -> Tensor:
        """What the signs are taken of."""
        return self._transform(weight, weight)

    def _transform(self, weight: Tensor, whole: Tensor) -> Tensor:
        if self.spec.transform == "centre":
            return BF.centre(weight, self.spec.over, self.spec.detach_mean, whole)
        if self.spec.transform == "standardize":
            return BF.standardize(weight)
        if self.spec.transform == "recu":
            return BF.rectified(weight, self.tau)
        if self.spec.transform == "search":
            return self.logits[1] - self.logits[0]
        return weight

    def scale_of(self, weight: Tensor) -> Tensor | None:
        """The scale that the codes of the weight come with, without the codes; `None` is 1."""
        return self._scale(weight, self._transform(weight, weight), weight)

    @torch.no_grad()
    def _scale(self, weight: Tensor, transformed: Tensor, whole: Tensor) -> Tensor | None:
        if self.spec.scale == "none":
            return None
        if self.learned is not None:
            return self.learned.scale()
        if self.spec.scale_over == "layer" and whole is not weight:
            weight, transformed = whole, self._transform(whole, whole)
        of_weight = self.spec.scale_of == "latent" or self.spec.transform == "search"
        measured = weight if of_weight else transformed
        if self.spec.scale == "power_of_two":
            return BF.positive(BF.power_of_two(measured, self.spec.scale_over))
        return BF.positive(BF.mean_abs(measured, self.spec.scale_over))

    @torch.no_grad()
    def constrain(self, weight: Tensor) -> None:
        """Apply the constraint to the latent weight, in place (after an optimizer step)."""
        self.estimator.constrain()
        if self.spec.constraint == "centre_clip":
            weight.copy_(BF.centre(weight, "channel"))
        if self.spec.constraint != "none":
            weight.clamp_(-self.spec.constraint_limit, self.spec.constraint_limit)
        if self.learned is not None:
            self.learned.constrain()

    @torch.no_grad()
    def start_from(self, weight: Tensor) -> None:
        """Make what was made from `weight` afresh, after other values were loaded into it."""
        if self.learned is not None:
            self.learned.start_from(weight)
        if self.spec.transform == "search" and self.spec.search_start == "weight":
            self.logits.copy_(BF.search_logits(weight, "weight"))
        if self.spec.kind == "split":
            first, second = BF.split_ternary(weight, self.spec.scale_over)
            self.first.copy_(first)
            self.second.copy_(second)

    @torch.no_grad()
    def merge_into(self, weight: Tensor) -> None:
        """Give a split weight back as one: `first + second`, unless they are still what the split made of `weight`."""
        if self.spec.kind != "split":
            return
        first, second = BF.split_ternary(weight, self.spec.scale_over)
        if not (torch.equal(first, self.first) and torch.equal(second, self.second)):
            weight.copy_(self.first + self.second)

    def extra_repr(self) -> str:
        """The fields that matter."""
        s = self.spec
        return f"{s.kind}, transform={s.transform}, scale={s.scale}/{s.scale_over}"

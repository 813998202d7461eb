"""Real activation in, binary (or few-bit) activation out."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnnapps.nn import functional as BF
from bnnapps.nn.codes import Codes
from bnnapps.nn.estimator import SignEstimator
from bnnapps.nn.functional.elastic import SMALLEST_SCALE
from bnnapps.nn.noise import ChannelNoise
from bnnapps.nn.spec import ActivationSpec


class ActivationBinarizer(nn.Module):
    """x -> x + shift -> quantizer -> scale, by the given record.

    Args:
        spec: which parts.
        channels: size of the learned shift (`shift: channel`).
        channel_dim: the dimension of `x` that holds the channels: 1 for maps, -1 for token vectors.

    Parameters, if the record asks for them: `shift` (channels,), zero at the start (RSign, ReActNet, 2020; `move`,
    BiT, 2022); `alpha` (1,), set from the first batch seen in training (`initial_scale`), or by `calibrate`;
    `low` and `high` (1,), -2.5 and 2.5 (BinaryBERT, 2021); `alpha` and `beta` (1,), 1 and 0, of the levels
    beta - alpha and beta + alpha (AdaBin, 2022); `offset` (channels,), zero at the start, and those of `second`
    (`dual`, BiFSMNv2, 2023).

    """

    shift: nn.Parameter
    alpha: nn.Parameter
    beta: nn.Parameter
    low: nn.Parameter
    high: nn.Parameter
    offset: nn.Parameter
    calibrated: Tensor

    def __init__(
        self,
        spec: ActivationSpec,
        channels: int,
        channel_dim: int = -1,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.channel_dim = channel_dim
        self.estimator = SignEstimator(spec.estimator, device)
        if spec.shift == "channel":
            self.shift = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        if spec.scale == "elastic":
            self.alpha = nn.Parameter(torch.ones(1, device=device))
            self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool, device=device))
        if spec.scale == "affine":
            self.alpha = nn.Parameter(torch.ones(1, device=device))
            self.beta = nn.Parameter(torch.zeros(1, device=device))
        self.noise = ChannelNoise(channels, channel_dim, device, dtype) if spec.noise else None
        if spec.scale == "uniform":
            self.low = nn.Parameter(torch.full((1,), -2.5, device=device))
            self.high = nn.Parameter(torch.full((1,), 2.5, device=device))
        self.second: ActivationBinarizer | None = None
        if spec.scale == "dual":
            self.offset = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
            self.second = ActivationBinarizer(second_of(spec, channel_dim), channels, channel_dim, device, dtype)
        self._needs_data = spec.scale == "elastic"

    @property
    def needs_data(self) -> bool:
        """Whether `alpha` still waits for the first batch seen in training."""
        return self._needs_data

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and largest code of the elastic quantizer (for one signed bit: -1 and +1)."""
        bits = self.spec.bits
        if self.spec.unsigned:
            return 0, 2**bits - 1
        return (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def forward(self, x: Tensor) -> Codes:
        """Codes and scale of x (`uniform`: real values)."""
        if self.second is not None:
            return self._dual(x, self.second)
        x = self._shifted(x)
        spec = self.spec
        if spec.standardize == "sample" and self.training:
            x = BF.standardize_samples(x, self._sample_dims(x))
        if spec.scale == "affine":
            alpha, beta = self.alpha.to(x.dtype), self.beta.to(x.dtype)
            return Codes(self.estimator((x - beta) / alpha), alpha, "sign", beta)
        if spec.scale == "unit":
            levels = 2**spec.bits - 1
            scale = None if levels == 1 else x.new_full((1,), 1 / levels)
            return Codes(BF.unit_levels(x, spec.bits), scale, "flag" if levels == 1 else "integer")
        if spec.scale == "uniform":
            low, high = self.low.to(x.dtype), self.high.to(x.dtype)
            return Codes(BF.clipped_uniform(x, low, high, spec.bits, spec.unsigned))
        if spec.scale == "elastic":
            return self._elastic(x)
        kind: Literal["flag", "sign"] = "flag" if spec.unsigned else "sign"
        codes = self.estimator(x, BF.step if spec.unsigned else BF.sign)
        if self.noise is not None and self.training:
            return Codes(codes + self.noise(x))
        if self._drops:
            return Codes(BF.dropped(codes, spec.dropout), self._row_scale(x))
        return Codes(codes, self._row_scale(x), kind)

    @property
    def gives_bits(self) -> bool:
        """Whether the codes of the moment take one bit, and one scale is all that goes with them."""
        spec = self.spec
        moves = (spec.noise and self.training) or self._drops
        return spec.bits == 1 and spec.scale not in ("uniform", "affine", "dual") and not moves

    @property
    def _drops(self) -> bool:
        return self.training and self.spec.dropout > 0

    def compared(self, x: Tensor) -> tuple[BF.Compared, Tensor | None]:
        """The codes as what they were made from (`BF.Compared`), and the scale; for one that `gives_bits`.

        A plain sign is not even computed: only its gradient passes through.
        """
        spec = self.spec
        if spec.scale in ("elastic", "unit") or torch.compiler.is_compiling():
            codes = self(x)
            middle = 0.5 if codes.kind == "flag" else 0.0
            threshold = codes.codes.new_full((1,), middle)
            return BF.Compared(codes.codes, codes.codes, threshold, codes.kind == "flag"), codes.scale
        if self.training and spec.standardize == "sample":
            x = BF.standardize_samples(self._shifted(x), self._sample_dims(x))
        elif spec.shift == "channel" and not torch.is_grad_enabled() and spec.scale == "none":
            # In floating point x + shift >= 0 just where x >= -shift: no sum of floats rounds to 0 unless it is 0.
            return BF.Compared(x, x, -self.shift, spec.unsigned), None
        else:
            x = self._shifted(x)
        codes = self.estimator(x, BF.carrier)
        return BF.Compared(codes, x, x.new_zeros(1), spec.unsigned), self._row_scale(x)

    def _dual(self, x: Tensor, second: ActivationBinarizer) -> Codes:
        """b + s sign(x - b + t_1) + t_2 with b = sign(x + t_0): one number s a row or a sample, its mean |x - b + t_1|.

        BiFSMNv2 (Qin et al., TNNLS 2023), where the three learned shifts are subtracted, and s is the mean over the
        frames for each channel: there only depthwise layers could be deployed.
        """
        first = self.estimator(self._shifted(x))
        shape = [1] * x.dim() if self.channel_dim != -1 else [-1]
        shape[self.channel_dim] = -1
        constant = Codes(self.offset.to(x.dtype).view(shape), kind="constant")
        return Codes(first, None, "sign", rest=second(x - first)._replace(rest=constant))

    def _sample_dims(self, x: Tensor) -> tuple[int, ...]:
        """The dimensions of one sample: all but the first, or all where x has no batch."""
        return tuple(range(1 if x.dim() > -self.channel_dim else 0, x.dim()))

    def _elastic(self, x: Tensor) -> Codes:
        if self._needs_data and self.training:
            self.calibrate(x)
        alpha = self.alpha.clamp(min=SMALLEST_SCALE).to(x.dtype)
        if self.spec.bits > 1:
            return Codes(BF.learned_step(x, alpha, *self.bounds), alpha.detach(), "integer")
        if self.spec.unsigned:
            return Codes(BF.learned_step(x, alpha, 0, 1), alpha.detach(), "flag")
        return Codes(BF.elastic_sign(x, alpha), alpha.detach(), "sign")

    def _row_scale(self, x: Tensor) -> Tensor | None:
        """K of a linear layer: the mean |x| of each row. A convolution computes its own map of K.

        `sample`: the mean |x| of each sample.
        """
        if self.spec.scale == "sample":
            return x.detach().abs().mean(dim=self._sample_dims(x), keepdim=True)
        if self.spec.scale != "input_map" or self.channel_dim != -1:
            return None
        return x.detach().abs().mean(dim=-1, keepdim=True)

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep `alpha` positive (after an optimizer step), and what the estimator learns."""
        self.estimator.constrain()
        if self.second is not None:
            self.second.constrain()
        if self.spec.scale in ("elastic", "affine"):
            self.alpha.clamp_(min=SMALLEST_SCALE)

    def _shifted(self, x: Tensor) -> Tensor:
        if self.spec.shift == "none":
            return x
        shape = [1] * x.dim()
        shape[self.channel_dim] = -1
        return x + self.shift.view(shape)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set `alpha` from data: 2 mean|x| / sqrt(Q) signed, 4 mean|x| / sqrt(Q) unsigned, Q the largest code."""
        self.alpha.copy_(BF.initial_scale(x, *self.bounds))
        self.calibrated.fill_(True)
        self._needs_data = False

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self.spec.scale == "elastic":
            self._needs_data = not bool(self.calibrated)

    def extra_repr(self) -> str:
        """The record's fields that matter."""
        s = self.spec
        codes = "{0, 1}" if s.unsigned else "{-1, +1}"
        return f"{codes if s.bits == 1 else f'{s.bits} bits'}, shift={s.shift}, scale={s.scale}"


def second_of(spec: ActivationSpec, channel_dim: int) -> ActivationSpec:
    """The record of the second sign of `dual`: its scale is the mean of each row, or (a convolution) of each sample."""
    return spec.model_copy(update={"scale": "input_map" if channel_dim == -1 else "sample", "shift": "channel"})

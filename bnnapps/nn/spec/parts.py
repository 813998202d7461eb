"""The records of a binarizer: of a weight, of an activation, and of the gradient of their signs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bnnapps.validation import Record

EstimatorName = Literal["identity", "clip", "polynomial", "ede", "swish"]


class EstimatorSpec(Record):
    """The gradient of the sign: see `bnnapps.nn.functional.sign` for each formula."""

    name: EstimatorName = "clip"
    limit: float = Field(default=1.0, gt=0)
    """Half-width of the window of `clip`."""
    beta: float = Field(default=5.0, gt=0)
    """Sharpness of `swish`."""
    t_min: float = Field(default=0.1, gt=0)
    """First t of `ede`."""
    t_max: float = Field(default=10.0, gt=0)
    """Last t of `ede`."""


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class WeightSpec(Record):
    """Latent weight -> transform -> sign (or ternary code) -> scale."""

    kind: Literal["binary", "ternary", "split"] = "binary"
    """`split`: two binary weights made from one ternary weight (BinaryBERT)."""
    transform: Literal["none", "centre", "standardize"] = "none"
    over: Literal["layer", "filter", "channel"] = "filter"
    """The group that `centre` runs over."""
    detach_mean: bool = False
    """Stop the gradient through the mean that `centre` subtracts."""
    estimator: EstimatorSpec = EstimatorSpec()
    scale: Literal["none", "mean_abs", "power_of_two"] = "mean_abs"
    scale_over: Literal["layer", "filter"] = "filter"
    scale_of: Literal["latent", "transformed"] = "transformed"
    """Whether the scale measures the weight before or after the transform."""
    scale_gradient: Literal["straight", "constant", "full"] = "straight"
    """With G the gradient of the scaled weight and m the estimator: `straight` m G, `constant` alpha m G,
    `full` alpha m G + sign(W) mean(G sign(W)), the product rule."""
    constraint: Literal["none", "clip", "centre_clip"] = "none"
    """What happens to the latent weight after each optimizer step: clip to [-1, 1], or centre and clip."""

    _estimator = field_validator("estimator", mode="before")(_by_name)


class ActivationSpec(Record):
    """Real input -> shift -> quantizer -> scale."""

    bits: int = Field(default=1, ge=1, le=8)
    unsigned: bool = False
    """Codes {0, 1} instead of {-1, +1}."""
    shift: Literal["none", "channel"] = "none"
    """`channel`: a learned bias per channel before the quantizer."""
    scale: Literal["none", "elastic", "uniform", "input_map"] = "none"
    """`elastic`: one learned number; `uniform`: clipped min-max; `input_map`: XNOR-Net's K."""
    estimator: EstimatorSpec = EstimatorSpec()

    _estimator = field_validator("estimator", mode="before")(_by_name)

    @model_validator(mode="after")
    def _bits_fit_the_scale(self) -> ActivationSpec:
        if self.bits > 1 and self.scale not in ("elastic", "uniform"):
            raise ValueError(f"bits is {self.bits}, so scale must be 'elastic' or 'uniform', not '{self.scale}'")
        if self.bits == 1 and self.scale == "uniform":
            raise ValueError("scale 'uniform' needs at least 2 bits; 'elastic' serves one bit")
        return self

"""What a binary layer is made of: frozen records that name its parts.

A method (`bnnapps.methods`) gives one record for each kind of layer; a rule may override single fields by their
dotted names (`activation.estimator: clip`, `pad_value: 1`). The modules that follow a record are in
`bnnapps.nn.weights`, `bnnapps.nn.activations` and `bnnapps.nn.layers`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bnnapps.errors import BinarizeError
from bnnapps.validation import Record, deep_set, field_paths, validated

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


class LinearSpec(Record):
    """A linear layer, or the projections of an attention. `None` keeps that operand real."""

    weight: WeightSpec | None = WeightSpec()
    activation: ActivationSpec | None = ActivationSpec()


class ConvSpec(LinearSpec):
    """A convolution. The padding of the binarized map is explicit."""

    pad_value: Literal[-1, 0, 1] = 0
    """What stands beyond the border of the binarized map; 0 leaves a third level there."""

    @model_validator(mode="after")
    def _pad_is_a_code(self) -> ConvSpec:
        if self.pad_value == -1 and self.activation is not None and self.activation.unsigned:
            raise ValueError("pad_value is -1, which is no code of an unsigned activation: use 0 or 1")
        return self


class EmbeddingSpec(Record):
    """A table of rows: each row is one filter."""

    weight: WeightSpec = WeightSpec()


class AttentionSpec(Record):
    """The two products of a self-attention: scores from query and key, context from weights and value.

    The weights come from the softmax of the scores, or (`softmax: false`, Bi-Attention of BiBERT) from the scores
    themselves. `None` keeps an operand real.
    """

    query: ActivationSpec | None = ActivationSpec()
    key: ActivationSpec | None = ActivationSpec()
    value: ActivationSpec | None = ActivationSpec()
    weights: ActivationSpec | None = ActivationSpec(unsigned=True)
    softmax: bool = False
    projection: LinearSpec = LinearSpec()
    """For `nn.MultiheadAttention`, which holds its own projections."""

    @model_validator(mode="after")
    def _operands_have_no_rows(self) -> AttentionSpec:
        for name in ("query", "key", "value", "weights"):
            operand: ActivationSpec | None = getattr(self, name)
            if operand is not None and operand.scale == "input_map":
                raise ValueError(f"{name}.scale is 'input_map', which only linear layers and convolutions have")
        if self.weights is not None and self.weights.shift != "none":
            raise ValueError("weights.shift is 'channel', but attention weights have no channels")
        return self


class NonlinearitySpec(Record):
    """A smooth activation function that becomes another one (BiT: GELU becomes ReLU)."""

    becomes: Literal["relu"] = "relu"


Spec = LinearSpec | ConvSpec | EmbeddingSpec | AttentionSpec | NonlinearitySpec


def override(spec: Spec, changes: dict[str, Any], where: str) -> Spec:
    """The record with some fields replaced; keys are dotted names or nested mappings.

    `activation_bits` is short for the bits of every activation in the record.

    Raises:
        BinarizeError: an unknown field (the nearest are named), or a value that does not fit.

    """
    values = spec.model_dump()
    for key, value in changes.items():
        if key == "activation_bits" and activation_paths(spec):
            for path in activation_paths(spec):
                deep_set(values, [*path, "bits"], value)
        else:
            deep_set(values, key.split("."), value)
    return validated(type(spec), values, where, BinarizeError)


def accepts(spec: Spec, key: str) -> bool:
    """Whether the record has the dotted field `key` (or, for `activation_bits`, any activation)."""
    return bool(activation_paths(spec)) if key == "activation_bits" else key in set(field_paths(type(spec)))


def activation_paths(spec: Record, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where the record holds activations: [("query",), ("projection", "activation"), ...]."""
    found: list[tuple[str, ...]] = []
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, ActivationSpec):
            found.append((*prefix, name))
        elif isinstance(value, Record):
            found += activation_paths(value, (*prefix, name))
    return found

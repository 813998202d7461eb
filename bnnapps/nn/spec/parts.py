"""The records of a binarizer: of a weight, of an activation, and of the gradient of their signs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bnnapps.validation import Record


def _as_tuple(value: Any) -> Any:
    """A list, which is what JSON and YAML make of a tuple, as a tuple again."""
    return tuple(value) if isinstance(value, list) else value


EstimatorName = Literal["identity", "clip", "polynomial", "ede", "swish", "fourier", "lpb"]


class EstimatorSpec(Record):
    """The gradient of the sign: see `bnnapps.nn.functional.sign` for each formula. `lpb` learns its window."""

    name: EstimatorName = "clip"
    limit: float = Field(default=1.0, gt=0)
    """Half-width of the window of `clip`."""
    beta: float = Field(default=5.0, gt=0)
    """Sharpness of `swish`."""
    t_min: float = Field(default=0.1, gt=0)
    """First t of `ede`."""
    t_max: float = Field(default=10.0, gt=0)
    """Last t of `ede`."""
    terms: tuple[int, int] = (9, 18)
    """First and last n of `fourier`, whose series has n + 1 cosines."""
    omega: float = Field(default=0.1, gt=0)
    """Frequency of `fourier`."""
    keep_bits: int | None = Field(default=None, ge=1, le=4)
    """So many bits an element of the gradient's multiplier are kept for the backward pass, rounded at random so that
    its mean stays: an eighth of the memory, a noisier gradient. By default the exact value is kept, as published.
    `identity` and `clip` need no more than a bit and are exact in any case."""

    _terms = field_validator("terms", mode="before")(_as_tuple)

    @model_validator(mode="after")
    def _bits_hold_a_negative_level(self) -> EstimatorSpec:
        if self.keep_bits is not None and self.name == "lpb":
            raise ValueError("keep_bits is for a multiplier that follows from x alone, and that of 'lpb' is learned")
        if self.keep_bits == 1 and self.name in ("swish", "fourier"):
            raise ValueError(f"keep_bits is 1, but the multiplier of '{self.name}' is negative in places: use 2 to 4")
        return self


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class WeightSpec(Record):
    """Latent weight -> transform -> sign (or ternary code) -> scale."""

    kind: Literal["binary", "ternary", "split"] = "binary"
    """`split`: two binary weights made from one ternary weight (BinaryBERT)."""
    transform: Literal["none", "centre", "standardize", "recu", "search"] = "none"
    """`recu`: standardized to a deviation of 2 sqrt(2), then clamped to a quantile (ReCU); `search`: the sign of each
    weight is searched for with two logits, its expectation in training and the likelier one after (LWS-Det)."""
    search_start: Literal["random", "weight"] = "random"
    """First logits of `search`: from N(0, 1) as published, or so that they stand for the signs of the weight."""
    over: Literal["layer", "filter", "channel"] = "filter"
    """The group that `centre` runs over."""
    detach_mean: bool = False
    """Stop the gradient through the mean that `centre` subtracts."""
    estimator: EstimatorSpec = EstimatorSpec()
    scale: Literal["none", "mean_abs", "power_of_two", "affine", "learned", "amplitude"] = "mean_abs"
    """`affine`: the codes stand for mean - deviation and mean + deviation (AdaBin); `learned`: one number a filter that
    starts as the mean |W| (LWS-Det); `amplitude`: one a filter from N(0, 1), times `amplitude_unit` (ASDA)."""
    amplitude_unit: float = Field(default=0.02, gt=0)
    """For `amplitude`: what its size is multiplied with."""
    amplitude_pull: float = Field(default=1e-4, ge=0)
    """For `amplitude`: how strongly real and binary weight are drawn together."""
    scale_over: Literal["layer", "filter"] = "filter"
    scale_of: Literal["latent", "transformed"] = "transformed"
    """Whether the scale measures the weight before or after the transform."""
    scale_gradient: Literal["straight", "constant", "full"] = "straight"
    """With G the gradient of the scaled weight and m the estimator: `straight` m G, `constant` alpha m G,
    `full` alpha m G + sign(W) mean(G sign(W)), the product rule."""
    noise: bool = False
    """A small network adds to the codes in training, less and less (FDA)."""
    constraint: Literal["none", "clip", "centre_clip"] = "none"
    """What happens to the latent weight after each optimizer step: clip to [-c, c], or centre and clip."""
    constraint_limit: float = Field(default=1.0, gt=0)
    """c: 1 in BNN, 1.25 in ResNetE and QuickNet, 1.3 in BinaryDenseNet."""

    _estimator = field_validator("estimator", mode="before")(_by_name)

    @model_validator(mode="after")
    def _learned_parts_fit(self) -> WeightSpec:
        if self.kind != "binary" and self.has_parameters:
            what = "transform 'search'" if self.transform == "search" else f"scale '{self.scale}'"
            raise ValueError(f"kind is '{self.kind}', and {what} is for weights of kind 'binary'")
        if self.scale in ("learned", "amplitude") and self.scale_over == "layer":
            raise ValueError(f"scale '{self.scale}' is one number a filter, so scale_over must be 'filter'")
        if self.scale == "amplitude" and self.transform != "none":
            raise ValueError(
                f"scale 'amplitude' goes with the weight itself, so transform must be 'none', not '{self.transform}'"
            )
        if self.transform == "search" and (self.scale == "affine" or self.noise):
            raise ValueError("transform 'search' goes with a plain scale: drop noise, or take another scale")
        return self

    @property
    def has_parameters(self) -> bool:
        """Whether logits or scales are learned beside the weight."""
        return self.transform == "search" or self.scale in ("learned", "amplitude")


class ActivationSpec(Record):
    """Real input -> shift -> quantizer -> scale."""

    bits: int = Field(default=1, ge=1, le=8)
    unsigned: bool = False
    """Codes {0, 1} instead of {-1, +1}."""
    standardize: Literal["none", "sample"] = "none"
    """`sample`: divided by the deviation of each sample, in training (ReCU)."""
    shift: Literal["none", "channel"] = "none"
    """`channel`: a learned bias per channel before the quantizer."""
    scale: Literal["none", "elastic", "uniform", "unit", "affine", "input_map", "sample", "dual"] = "none"
    """`elastic`: one learned number; `uniform`: clipped min-max; `unit`: levels of [0, 1] (DoReFa); `affine`: two
    learned levels (AdaBin); `input_map`: XNOR-Net's K; `sample`: the mean |x| of each sample; `dual`: a second sign of
    what the first one leaves, with a scale from the data, and a learned constant (BiFSMNv2)."""
    noise: bool = False
    """A small network adds to the codes in training, less and less (FDA)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a code is 0 in training, the others times 1 / (1 - p) (Bi-GCN). Dropped before its sign, a value
    would only become +1."""
    estimator: EstimatorSpec = EstimatorSpec()

    _estimator = field_validator("estimator", mode="before")(_by_name)

    @model_validator(mode="after")
    def _bits_fit_the_scale(self) -> ActivationSpec:
        if self.bits > 1 and self.scale not in ("elastic", "uniform", "unit"):
            raise ValueError(
                f"bits is {self.bits}, so scale must be 'elastic', 'uniform' or 'unit', not '{self.scale}'"
            )
        if self.bits == 1 and self.scale == "uniform":
            raise ValueError("scale 'uniform' needs at least 2 bits; 'elastic' serves one bit")
        if self.scale == "unit" and not self.unsigned:
            raise ValueError("scale 'unit' has the levels 0 to 1, so unsigned must be true")
        if self.scale == "affine" and self.unsigned:
            raise ValueError("scale 'affine' learns both of its levels, so unsigned must be false")
        if self.scale == "dual" and (self.unsigned or self.standardize != "none"):
            field = "unsigned is true" if self.unsigned else f"standardize is '{self.standardize}'"
            raise ValueError(f"scale 'dual' is a sum of two plain signs, and {field}: drop one of them")
        if self.noise and self.scale != "none":
            raise ValueError(f"noise is added to plain signs, so scale must be 'none', not '{self.scale}'")
        if self.dropout and (self.noise or self.scale not in ("none", "input_map", "sample")):
            what = "noise is true" if self.noise else f"scale is '{self.scale}'"
            raise ValueError(f"dropout drops plain signs, but {what}: drop one of them")
        return self


class OutputSpec(Record):
    """What multiplies the result of a product, beside the scales of its operands."""

    scale: Literal["layer", "channel", "position", "channel_position", "rank_one", "gate"] = "channel"
    """`layer`: one learned number; `channel`: one a channel; `position`: one for each channel and position;
    `channel_position`: one a channel times one a position; `rank_one`: one a channel, a row and a column,
    multiplied (XNOR-Net++); `gate`: computed from the input, for each sample and channel (Real-to-Binary). Layers
    without positions take `channel`."""
    initial: Literal["one", "uniform", "mean_abs", "recovery"] = "one"
    """First values of `channel`: 1, random in [0, 1), or the mean |W| of each filter. `recovery`, of `layer`: the
    deviation of the real product over that of the binary one, on the first batch of the training (BiPointNet)."""
    size: tuple[int, ...] | None = None
    """Positions of the output (rows, columns); by default seen on the example inputs."""
    reduction: int = Field(default=8, ge=1)
    """`gate`: by how much its hidden layer is narrower than its input."""

    _size = field_validator("size", mode="before")(_as_tuple)

    @model_validator(mode="after")
    def _recovers_a_layer(self) -> OutputSpec:
        if self.initial == "recovery" and self.scale != "layer":
            raise ValueError(
                f"initial 'recovery' is one number for the layer: set scale to 'layer', not '{self.scale}'"
            )
        if self.scale == "layer" and self.initial in ("uniform", "mean_abs"):
            raise ValueError(f"scale 'layer' begins at 'one' or 'recovery', not at '{self.initial}'")
        return self

"""The records of layers: one for each kind, made of the records in `parts`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bnnapps.nn.spec.parts import ActivationSpec, OutputSpec, WeightSpec
from bnnapps.validation import Record

_OF_LAYERS = ("affine", "input_map", "sample", "dual")
"""Scales of activations that need a weight beside them."""


class LinearSpec(Record):
    """A linear layer, or the projections of an attention. `None` keeps that operand real."""

    weight: WeightSpec | None = WeightSpec()
    activation: ActivationSpec | None = ActivationSpec()
    output: OutputSpec | None = None
    gradient_bits: int = Field(default=32, ge=1, le=32)
    """The gradient of the result is rounded to so many bits, with noise (DoReFa); 32 leaves it as it is."""
    input_gradient: Literal["scaled", "plain"] = "scaled"
    """With G the gradient of the result and s the product of both scales, the codes of the input get (s G) @ codes(W),
    or (`plain`, Bi-GCN) G @ codes(W)."""

    @model_validator(mode="after")
    def _plain_needs_codes(self) -> LinearSpec:
        if self.input_gradient == "plain":
            for name, part in (("weight", self.weight), ("activation", self.activation)):
                if part is None:
                    raise ValueError(f"input_gradient is 'plain', but {name} stays real: drop it, or binarize both")
                if part.scale in ("affine", "dual"):
                    raise ValueError(
                        f"input_gradient is 'plain', but {name}.scale is '{part.scale}', which has an offset"
                    )
        return self


class ConvSpec(LinearSpec):
    """A convolution. The padding of the binarized map is explicit."""

    pad_value: Literal[-1, 0, 1] = 0
    """What stands beyond the border of the binarized map; 0 leaves a third level there."""

    @model_validator(mode="after")
    def _pad_is_a_code(self) -> ConvSpec:
        if self.pad_value == -1 and self.activation is not None and self.activation.unsigned:
            raise ValueError("pad_value is -1, which is no code of an unsigned activation: use 0 or 1")
        return self

    @model_validator(mode="after")
    def _gradient_is_scaled(self) -> ConvSpec:
        if self.input_gradient == "plain":
            raise ValueError("input_gradient is 'plain', which only linear layers have: leave it at 'scaled'")
        return self


class EmbeddingSpec(Record):
    """A table of rows: each row is one filter."""

    weight: WeightSpec = WeightSpec()

    @model_validator(mode="after")
    def _rows_are_looked_up(self) -> EmbeddingSpec:
        if self.weight.has_parameters:
            field = "transform is 'search'" if self.weight.transform == "search" else f"scale is '{self.weight.scale}'"
            raise ValueError(f"weight.{field}, which only layers have that multiply with their whole weight")
        return self


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
            if operand is not None and operand.scale in ("input_map", "affine", "dual"):
                raise ValueError(f"{name}.scale is '{operand.scale}', which only linear layers and convolutions have")
        if self.weights is not None and self.weights.shift != "none":
            raise ValueError("weights.shift is 'channel', but attention weights have no channels")
        return self


class NonlinearitySpec(Record):
    """A smooth activation function that becomes another one (BiT: GELU becomes ReLU; binary_gnn: tanh becomes sign)."""

    becomes: Literal["relu", "sign", "hardtanh", "identity"] = "relu"
    """`sign` has the clipped gradient: 1 where |x| <= 1; `hardtanh`: x clipped to [-1, 1], which leaves signs alone."""


class AggregationSpec(Record):
    """What makes one vector of the points of a set."""

    pool: Literal["keep", "max", "mean", "ema_max", "ema_avg"] = "ema_max"
    """`keep`: what the network has; `max`, `mean`: that one; `ema_max`: the maximum minus Phi^-1(0.5^(1/n)), so that
    its sign is balanced; `ema_avg`: the mean, whose sign is balanced as it is (both BiPointNet)."""


class MatmulSpec(Record):
    """The product of two activations; `None` keeps an operand real."""

    left: ActivationSpec | None = ActivationSpec()
    right: ActivationSpec | None = ActivationSpec()

    @model_validator(mode="after")
    def _operands_have_no_channels(self) -> MatmulSpec:
        for name in ("left", "right"):
            operand: ActivationSpec | None = getattr(self, name)
            if operand is None:
                continue
            if operand.scale in _OF_LAYERS:
                raise ValueError(f"{name}.scale is '{operand.scale}', which only linear layers and convolutions have")
            if operand.shift != "none" or operand.noise:
                field = "noise is true" if operand.noise else f"shift is '{operand.shift}'"
                raise ValueError(f"{name}.{field}, but a product of activations has no channels of a known number")
        return self

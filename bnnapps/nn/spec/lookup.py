"""The record of a layer of lookup tables."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bnnapps.nn.spec.parts import EstimatorSpec, WeightSpec
from bnnapps.validation import Record


class LookupSpec(Record):
    """A layer of lookup tables: latent entries become -1 and +1, and one of each table is read."""

    weight: WeightSpec = WeightSpec(estimator=EstimatorSpec(name="identity"), scale="none", constraint="clip")
    """Of the entries."""
    neighbours: Literal["inverse", "geometric"] = "inverse"
    """How entries away from the one that is read count for the gradient of the inputs, by the number h of inputs in
    which they differ: 1 / (h + 1) (extended finite difference, as published), or (3/4)^(n-1-h) (1/4)^h / 2, as the
    authors' library has it."""
    spectral: float = Field(default=0.0, ge=0)
    """A factor for the norm of the Walsh-Hadamard coefficients of the tables, which is added to the loss."""

    @model_validator(mode="after")
    def _entries_are_bits(self) -> LookupSpec:
        weight = self.weight
        if weight.kind != "binary" or weight.scale != "none" or weight.noise or weight.has_parameters:
            raise ValueError("weight: the entries of a table are bits: kind 'binary', scale 'none', no noise")
        return self

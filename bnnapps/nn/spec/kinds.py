"""The records of all kinds of layer."""

from __future__ import annotations

from bnnapps.nn.spec.block import BlockSpec
from bnnapps.nn.spec.layers import (
    AggregationSpec,
    AttentionSpec,
    ConvSpec,
    EmbeddingSpec,
    LinearSpec,
    MatmulSpec,
    NonlinearitySpec,
)
from bnnapps.nn.spec.lookup import LookupSpec

Spec = (
    LinearSpec
    | ConvSpec
    | EmbeddingSpec
    | AttentionSpec
    | NonlinearitySpec
    | MatmulSpec
    | BlockSpec
    | AggregationSpec
    | LookupSpec
)

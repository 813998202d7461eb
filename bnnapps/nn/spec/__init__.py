"""What a binary layer is made of: frozen records that name its parts.

A method (`bnnapps.methods`) gives one record for each kind of layer; a rule may override single fields by their
dotted names (`activation.estimator: clip`, `pad_value: 1`). The modules that follow a record are in
`bnnapps.nn.weights`, `bnnapps.nn.activations` and `bnnapps.nn.layers`.
"""

from bnnapps.nn.spec.block import BlockSpec, NonlinearityName
from bnnapps.nn.spec.kinds import Spec
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
from bnnapps.nn.spec.override import accepts, activation_paths, override
from bnnapps.nn.spec.parts import ActivationSpec, EstimatorName, EstimatorSpec, OutputSpec, WeightSpec

__all__ = [
    "ActivationSpec",
    "AggregationSpec",
    "AttentionSpec",
    "BlockSpec",
    "ConvSpec",
    "EmbeddingSpec",
    "EstimatorName",
    "EstimatorSpec",
    "LinearSpec",
    "LookupSpec",
    "MatmulSpec",
    "NonlinearityName",
    "NonlinearitySpec",
    "OutputSpec",
    "Spec",
    "WeightSpec",
    "accepts",
    "activation_paths",
    "override",
]

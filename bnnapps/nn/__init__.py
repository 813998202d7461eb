"""Binary layers and the parts that they are made of."""

from bnnapps.nn import functional
from bnnapps.nn.activations import ActivationBinarizer, RPReLU
from bnnapps.nn.layers import (
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryEmbedding,
    BinaryLayer,
    BinaryLinear,
    BinaryMultiheadAttention,
)
from bnnapps.nn.progress import Scheduled, set_progress
from bnnapps.nn.spec import (
    ActivationSpec,
    AttentionSpec,
    ConvSpec,
    EmbeddingSpec,
    EstimatorSpec,
    LinearSpec,
    NonlinearitySpec,
    WeightSpec,
)
from bnnapps.nn.weights import WeightBinarizer

__all__ = [
    "ActivationBinarizer",
    "ActivationSpec",
    "AttentionSpec",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryConv3d",
    "BinaryEmbedding",
    "BinaryLayer",
    "BinaryLinear",
    "BinaryMultiheadAttention",
    "ConvSpec",
    "EmbeddingSpec",
    "EstimatorSpec",
    "LinearSpec",
    "NonlinearitySpec",
    "RPReLU",
    "Scheduled",
    "WeightBinarizer",
    "WeightSpec",
    "functional",
    "set_progress",
]

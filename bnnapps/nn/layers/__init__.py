"""Binary layers, one kind a file."""

from bnnapps.nn.layers.base import PARTS, BinaryLayer, Parts
from bnnapps.nn.layers.conv import BinaryConv1d, BinaryConv2d, BinaryConv3d
from bnnapps.nn.layers.embedding import BinaryEmbedding
from bnnapps.nn.layers.hf_attention import BinaryHFSelfAttention
from bnnapps.nn.layers.linear import BinaryLinear
from bnnapps.nn.layers.multihead_attention import BinaryMultiheadAttention
from bnnapps.nn.layers.nonlinearity import ReplacedNonlinearity

__all__ = [
    "PARTS",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryConv3d",
    "BinaryEmbedding",
    "BinaryHFSelfAttention",
    "BinaryLayer",
    "BinaryLinear",
    "BinaryMultiheadAttention",
    "Parts",
    "ReplacedNonlinearity",
]

"""Binary layers, one kind a file."""

from bnnapps.nn.layers.aggregation import Aggregation, BinaryAggregation, BinaryPyGAggregation
from bnnapps.nn.layers.base import PARTS, BinaryLayer, Parts
from bnnapps.nn.layers.bilinear import BinaryBilinear
from bnnapps.nn.layers.conv import BinaryConv1d, BinaryConv2d, BinaryConv3d
from bnnapps.nn.layers.conv_transpose import BinaryConvTranspose1d, BinaryConvTranspose2d, BinaryConvTranspose3d
from bnnapps.nn.layers.embedding import BinaryEmbedding
from bnnapps.nn.layers.embedding_bag import BinaryEmbeddingBag
from bnnapps.nn.layers.hf_attention import BinaryHFSelfAttention
from bnnapps.nn.layers.hf_conv1d import BinaryHFConv1D
from bnnapps.nn.layers.linear import BinaryLinear
from bnnapps.nn.layers.lookup import BinaryLookup, Lookup
from bnnapps.nn.layers.matmul import BinaryMatmul, Matmul
from bnnapps.nn.layers.multihead_attention import BinaryMultiheadAttention
from bnnapps.nn.layers.nonlinearity import Rectifier, ReplacedNonlinearity, Squash
from bnnapps.nn.layers.pyg_linear import BinaryPyGLinear
from bnnapps.nn.layers.recurrent import BinaryGRU, BinaryLSTM, BinaryRNN
from bnnapps.nn.layers.recurrent_cell import BinaryGRUCell, BinaryLSTMCell, BinaryRNNCell
from bnnapps.nn.layers.residual_block import ResidualBlock
from bnnapps.nn.layers.shifted_window import BinaryShiftedWindowAttention
from bnnapps.nn.layers.timm_attention import BinaryTimmAttention

__all__ = [
    "PARTS",
    "Aggregation",
    "BinaryAggregation",
    "BinaryBilinear",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryConv3d",
    "BinaryConvTranspose1d",
    "BinaryConvTranspose2d",
    "BinaryConvTranspose3d",
    "BinaryEmbedding",
    "BinaryEmbeddingBag",
    "BinaryGRU",
    "BinaryGRUCell",
    "BinaryHFConv1D",
    "BinaryHFSelfAttention",
    "BinaryLSTM",
    "BinaryLSTMCell",
    "BinaryLayer",
    "BinaryLinear",
    "BinaryLookup",
    "BinaryMatmul",
    "BinaryMultiheadAttention",
    "BinaryPyGAggregation",
    "BinaryPyGLinear",
    "BinaryRNN",
    "BinaryRNNCell",
    "BinaryShiftedWindowAttention",
    "BinaryTimmAttention",
    "Lookup",
    "Matmul",
    "Parts",
    "Rectifier",
    "ReplacedNonlinearity",
    "ResidualBlock",
    "Squash",
]

"""Which kinds of layer have a binary twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from bnnapps.nn.blocks.conv_unit import ConvUnit
from bnnapps.nn.layers import (
    Aggregation,
    BinaryAggregation,
    BinaryBilinear,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryEmbedding,
    BinaryEmbeddingBag,
    BinaryGRU,
    BinaryGRUCell,
    BinaryHFConv1D,
    BinaryHFSelfAttention,
    BinaryLinear,
    BinaryLookup,
    BinaryLSTM,
    BinaryLSTMCell,
    BinaryMatmul,
    BinaryMultiheadAttention,
    BinaryPyGAggregation,
    BinaryPyGLinear,
    BinaryRNN,
    BinaryRNNCell,
    BinaryShiftedWindowAttention,
    BinaryTimmAttention,
    Lookup,
)
from bnnapps.nn.layers.aggregation import is_pyg_aggregation
from bnnapps.nn.layers.base import Twin
from bnnapps.nn.layers.conv_module import BinaryConvModule, is_conv_module
from bnnapps.nn.layers.conv_same import BinaryConv2dSame, is_conv2d_same
from bnnapps.nn.layers.conv_unit import BinaryConvUnit
from bnnapps.nn.layers.hf_attention import is_hf_attention
from bnnapps.nn.layers.hf_conv1d import is_hf_conv1d
from bnnapps.nn.layers.matmul import Matmul
from bnnapps.nn.layers.nonlinearity import Rectifier, ReplacedNonlinearity, Squash
from bnnapps.nn.layers.pyg_linear import is_pyg_linear
from bnnapps.nn.layers.residual_block import ResidualBlock, is_residual_block
from bnnapps.nn.layers.scaled_embedding import BinaryScaledEmbedding, is_scaled_embedding
from bnnapps.nn.layers.shifted_window import is_shifted_window_attention
from bnnapps.nn.layers.timm_attention import is_timm_attention
from bnnapps.nn.spec import (
    AggregationSpec,
    AttentionSpec,
    BlockSpec,
    ConvSpec,
    EmbeddingSpec,
    LinearSpec,
    LookupSpec,
    MatmulSpec,
    NonlinearitySpec,
    Spec,
)

if TYPE_CHECKING:
    from bnnapps.methods.method import Slot


@dataclass(frozen=True)
class LayerType:
    """A kind of layer, by the key that rules use.

    Attributes:
        key: as in `types: [key]`.
        twin: the binary class.
        spec: the record of its parts.
        slot: where a method describes it.
        matches: whether a module is of this kind. A subclass that computes something else is not.
        absorbs: children whose forward the module never calls; they become binary with it or not at all.
        describes: one line for `bnnapps list layers`.
        variants: classes of the same kind that need a twin of their own, with how to know them.

    """

    key: str
    twin: Twin
    spec: type[Spec]
    slot: Slot
    matches: Callable[[nn.Module], bool]
    absorbs: tuple[str, ...] = ()
    describes: str = ""
    variants: tuple[tuple[Callable[[nn.Module], bool], Twin], ...] = ()

    def covers(self, module: nn.Module) -> bool:
        """Whether a module is of this kind, variants included."""
        return self.matches(module) or any(matches(module) for matches, _ in self.variants)

    def twin_for(self, module: nn.Module) -> Twin:
        """The binary class for a float module of this kind."""
        return next((twin for matches, twin in self.variants if matches(module)), self.twin)


_TYPES: dict[str, LayerType] = {}


def register_layer_type(layer_type: LayerType) -> None:
    """Make a kind of layer known.

    Raises:
        ValueError: the key is taken.

    """
    if layer_type.key in _TYPES:
        raise ValueError(f"a layer type with the key '{layer_type.key}' is registered already")
    _TYPES[layer_type.key] = layer_type


def layer_types() -> dict[str, LayerType]:
    """All kinds of layer that have a binary twin, by key."""
    return dict(_TYPES)


def type_of(module: nn.Module) -> LayerType | None:
    """The kind of a module, or `None` where it has no binary twin."""
    return next((t for t in _TYPES.values() if t.covers(module)), None)


_THIN_WRAPPERS = {
    *(
        ("mmcv.cnn.bricks.wrappers", name)
        for name in ("Linear", "Conv2d", "Conv3d", "ConvTranspose2d", "ConvTranspose3d")
    ),
    ("timm.layers.linear", "Linear"),
}
"""Subclasses, by module and name, whose own forward computes what the class of PyTorch does."""


def _computes_as(base: type[nn.Module], *methods: str) -> Callable[[nn.Module], bool]:
    """Whether a module is a `base` whose methods (`forward` at least) are those of `base`, or do the same."""

    def matches(module: nn.Module) -> bool:
        kind: Any = type(module)
        if not isinstance(module, base):
            return False
        own = [m for m in ("forward", *methods) if getattr(kind, m) is not getattr(base, m)]
        return not own or (own == ["forward"] and (kind.__module__, kind.__name__) in _THIN_WRAPPERS)

    return matches


def _is_gelu(module: nn.Module) -> bool:
    kind = type(module)
    return kind is nn.GELU or (kind.__module__ == "transformers.activations" and "GELU" in kind.__name__)


def _register() -> None:
    register_layer_type(
        LayerType(
            key="multihead_attention",
            twin=BinaryMultiheadAttention,
            spec=AttentionSpec,
            slot="attention",
            matches=_computes_as(nn.MultiheadAttention),
            absorbs=("out_proj",),
            describes="nn.MultiheadAttention: its four projections and its two products",
        )
    )
    register_layer_type(
        LayerType(
            key="hf.SelfAttention",
            twin=BinaryHFSelfAttention,
            spec=AttentionSpec,
            slot="attention",
            matches=is_hf_attention,
            describes="self-attention of a Hugging Face model: its two products (its projections are 'linear')",
        )
    )
    register_layer_type(
        LayerType(
            key="linear",
            twin=BinaryLinear,
            spec=LinearSpec,
            slot="linear",
            matches=_computes_as(nn.Linear),
            describes="nn.Linear",
        )
    )
    convolutions: list[tuple[Twin, type[nn.Module]]] = [
        (BinaryConv1d, nn.Conv1d),
        (BinaryConv2d, nn.Conv2d),
        (BinaryConv3d, nn.Conv3d),
    ]
    for twin, base in convolutions:
        register_layer_type(
            LayerType(
                key=base.__name__.lower(),
                twin=twin,
                spec=ConvSpec,
                slot="conv",
                matches=_computes_as(base, "_conv_forward"),
                describes=f"nn.{base.__name__}: groups, dilation, stride, every padding mode",
                variants=((is_conv2d_same, BinaryConv2dSame),) if base is nn.Conv2d else (),
            )
        )
    register_layer_type(
        LayerType(
            key="embedding",
            twin=BinaryEmbedding,
            spec=EmbeddingSpec,
            slot="embedding",
            matches=_computes_as(nn.Embedding),
            describes="nn.Embedding: one bit an entry, one scale a row",
            variants=((is_scaled_embedding, BinaryScaledEmbedding),),
        )
    )
    register_layer_type(
        LayerType(
            key="gelu",
            twin=ReplacedNonlinearity,
            spec=NonlinearitySpec,
            slot="nonlinearity",
            matches=_is_gelu,
            describes="GELU, to be replaced by ReLU",
        )
    )
    register_layer_type(
        LayerType(
            key="squash",
            twin=ReplacedNonlinearity,
            spec=NonlinearitySpec,
            slot="nonlinearity",
            matches=_computes_as(Squash),
            describes="bnnapps.nn.Squash: tanh in a float model of your own, a sign in a binary one",
        )
    )
    register_layer_type(
        LayerType(
            key="rectifier",
            twin=ReplacedNonlinearity,
            spec=NonlinearitySpec,
            slot="nonlinearity",
            matches=_computes_as(Rectifier),
            describes="bnnapps.nn.Rectifier: ReLU in a float model of your own, clipped to [-1, 1] in a binary one",
        )
    )
    register_layer_type(
        LayerType(
            key="aggregation",
            twin=BinaryAggregation,
            spec=AggregationSpec,
            slot="aggregation",
            matches=_computes_as(Aggregation),
            describes="bnnapps.nn.Aggregation: the maximum or mean over the points of a set, in a model of your own",
        )
    )
    register_layer_type(
        LayerType(
            key="pyg.Aggregation",
            twin=BinaryPyGAggregation,
            spec=AggregationSpec,
            slot="aggregation",
            matches=is_pyg_aggregation,
            describes="maximum or mean over neighbours in the convolutions of PyTorch Geometric (aggr_module)",
        )
    )
    register_layer_type(
        LayerType(
            key="residual_block",
            twin=ResidualBlock,
            spec=BlockSpec,
            slot="block",
            matches=is_residual_block,
            describes="basic and bottleneck blocks of torchvision, timm, mmdet and our models: shortcuts, norms, "
            "non-linearities; their convolutions are layers of their own",
        )
    )
    register_layer_type(
        LayerType(
            key="conv_unit",
            twin=BinaryConvUnit,
            spec=BlockSpec,
            slot="block",
            matches=_computes_as(ConvUnit),
            describes="a convolution with BatchNorm and ReLU of our detectors: its norm, shortcut and non-linearity; "
            "the convolution inside is a layer of its own",
        )
    )
    register_layer_type(
        LayerType(
            key="conv_module",
            twin=BinaryConvModule,
            spec=BlockSpec,
            slot="block",
            matches=is_conv_module,
            describes="ConvModule of mmcv that has a norm or a non-linearity: these, and a shortcut; the convolution "
            "inside is a layer of its own",
        )
    )
    register_layer_type(
        LayerType(
            key="hf.Conv1D",
            twin=BinaryHFConv1D,
            spec=LinearSpec,
            slot="linear",
            matches=is_hf_conv1d,
            describes="Conv1D of Hugging Face's GPT models, a linear layer with a transposed weight",
        )
    )
    register_layer_type(
        LayerType(
            key="pyg.Linear",
            twin=BinaryPyGLinear,
            spec=LinearSpec,
            slot="linear",
            matches=is_pyg_linear,
            describes="Linear of PyTorch Geometric, inside its convolutions too",
        )
    )
    register_layer_type(
        LayerType(
            key="timm.Attention",
            twin=BinaryTimmAttention,
            spec=AttentionSpec,
            slot="attention",
            matches=is_timm_attention,
            describes="attention of timm that has a fused path: its two products (its projections are 'linear')",
        )
    )
    register_layer_type(
        LayerType(
            key="torchvision.ShiftedWindowAttention",
            twin=BinaryShiftedWindowAttention,
            spec=AttentionSpec,
            slot="attention",
            matches=is_shifted_window_attention,
            absorbs=("qkv", "proj"),
            describes="window attention of torchvision's Swin models (V1, V2, 3d): two projections, two products",
        )
    )
    register_layer_type(
        LayerType(
            key="matmul",
            twin=BinaryMatmul,
            spec=MatmulSpec,
            slot="matmul",
            matches=_computes_as(Matmul),
            describes="bnnapps.nn.Matmul: a product of two activations in a model of your own",
        )
    )
    register_layer_type(
        LayerType(
            key="lookup",
            twin=BinaryLookup,
            spec=LookupSpec,
            slot="lookup",
            matches=_computes_as(Lookup),
            describes="bnnapps.nn.Lookup: tables of a few inputs in a model of your own; one entry of each is read",
        )
    )


def _register_more_of_torch() -> None:
    """Transposed convolutions, bilinear layers, embedding bags, recurrent layers and cells."""
    kinds: list[tuple[str, Twin, type[Spec], Slot, str]] = [
        ("conv_transpose1d", BinaryConvTranspose1d, ConvSpec, "conv", "groups, dilation, stride, output padding"),
        ("conv_transpose2d", BinaryConvTranspose2d, ConvSpec, "conv", "groups, dilation, stride, output padding"),
        ("conv_transpose3d", BinaryConvTranspose3d, ConvSpec, "conv", "groups, dilation, stride, output padding"),
        ("bilinear", BinaryBilinear, LinearSpec, "linear", "both of its inputs"),
        (
            "embedding_bag",
            BinaryEmbeddingBag,
            EmbeddingSpec,
            "embedding",
            "one bit an entry, one scale a row; each mode",
        ),
        ("rnn", BinaryRNN, LinearSpec, "linear", "its products with input and hidden state"),
        ("lstm", BinaryLSTM, LinearSpec, "linear", "its products with input and hidden state, and its projection"),
        ("gru", BinaryGRU, LinearSpec, "linear", "its products with input and hidden state"),
        ("rnn_cell", BinaryRNNCell, LinearSpec, "linear", "its products with input and hidden state"),
        ("lstm_cell", BinaryLSTMCell, LinearSpec, "linear", "its products with input and hidden state"),
        ("gru_cell", BinaryGRUCell, LinearSpec, "linear", "its products with input and hidden state"),
    ]
    for key, twin, spec, slot, what in kinds:
        base = twin.replaces
        register_layer_type(
            LayerType(key, twin, spec, slot, _computes_as(base), describes=f"nn.{base.__name__}: {what}")
        )


_register()
_register_more_of_torch()

"""Which kinds of layer have a binary twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from bnnapps.nn.layers import (
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryEmbedding,
    BinaryHFSelfAttention,
    BinaryLinear,
    BinaryMultiheadAttention,
)
from bnnapps.nn.layers.base import Twin
from bnnapps.nn.layers.hf_attention import is_hf_attention
from bnnapps.nn.layers.nonlinearity import ReplacedNonlinearity
from bnnapps.nn.spec import AttentionSpec, ConvSpec, EmbeddingSpec, LinearSpec, NonlinearitySpec, Spec

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

    """

    key: str
    twin: Twin
    spec: type[Spec]
    slot: Slot
    matches: Callable[[nn.Module], bool]
    absorbs: tuple[str, ...] = ()
    describes: str = ""


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
    return next((t for t in _TYPES.values() if t.matches(module)), None)


def _computes_as(base: type[nn.Module], *methods: str) -> Callable[[nn.Module], bool]:
    """Whether a module is a `base` whose methods (`forward` at least) are those of `base`."""

    def matches(module: nn.Module) -> bool:
        kind: Any = type(module)
        return isinstance(module, base) and all(getattr(kind, m) is getattr(base, m) for m in ("forward", *methods))

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


_register()

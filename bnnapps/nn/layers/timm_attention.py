"""Attention of timm's models, reached through the one operator that they all call.

timm has some forty attention classes. Those that have a switch `fused_attn` compute both of their products with
`torch.nn.functional.scaled_dot_product_attention`; a binary one runs the forward of its float class, in which that
operator is ours. Their projections are layers of their own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bnnapps.errors import BinarizeError
from bnnapps.nn.layers.attention import AttentionParts
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.spec import AttentionSpec

SWITCH = "fused_attn"


def is_timm_attention(module: nn.Module) -> bool:
    """Whether the module is timm's, and its scores are products of query and key that the fused operator can compute.

    Those that normalize query and key inside (cosine attention) are not: their scores lose their range with the norms.
    """
    kind: Any = type(module)
    code = getattr(kind.forward, "__code__", None)
    if code is None or not kind.__module__.startswith("timm.") or SWITCH not in vars(module):
        return False
    return "scaled_dot_product_attention" in code.co_names and "normalize" not in code.co_names


class BinaryTimmAttention(BinaryLayer[AttentionSpec]):
    """An attention of timm whose two products are binary.

    The class is made for each attention class: `BinaryAttention(BinaryTimmAttention, timm.layers.Attention)`.
    """

    probe = "attend"
    binary: AttentionParts

    def make_parts(self, spec: AttentionSpec) -> AttentionParts:
        """The binarizers for this attention.

        Raises:
            BinarizeError: a part is made for each feature of a head, and the module does not say how many there are.

        """
        size = head_size(self)
        operands = (spec.query, spec.key, spec.value)
        if size is None and any(o is not None and (o.shift == "channel" or o.noise) for o in operands):
            raise BinarizeError(
                f"{type(self).__name__} does not say how many features a head has, which shift 'channel' and noise "
                "need: set them off for this layer, or keep it"
            )
        return AttentionParts(spec, 1 if size is None else size, next(iter(self.parameters())))

    def attach(self, spec: AttentionSpec, parts: AttentionParts) -> None:  # type: ignore[override]
        """Take on the parts, and the path through the fused operator."""
        super().attach(spec, parts)
        self.__dict__["_float_switch"] = self.__dict__[SWITCH]
        self.__dict__[SWITCH] = True

    def detach(self) -> None:
        """Drop the parts, and take the float path back."""
        self.__dict__[SWITCH] = self.__dict__.pop("_float_switch")
        super().detach()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the float module; its fused operator is ours."""
        with _Attend(self):
            return super().forward(*args, **kwargs)

    def attend(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """See `AttentionParts.attend`."""
        return self.binary.attend(*args, **kwargs)

    def constrain(self) -> None:
        """Keep learned scales positive."""
        self.binary.constrain()


def head_size(module: nn.Module) -> int | None:
    """Features of one head, where the module says so (and query, key and value have the same)."""
    for name in ("head_dim", "dim_head"):
        if isinstance(getattr(module, name, None), int):
            return int(getattr(module, name))
    heads, qkv = getattr(module, "num_heads", None), getattr(module, "qkv", None)
    if isinstance(heads, int) and isinstance(qkv, nn.Linear):
        return int(qkv.out_features // (3 * heads))
    return None


class _Attend(TorchFunctionMode):
    """Inside this context the fused operator of PyTorch is the binary attention of one layer."""

    def __init__(self, layer: BinaryTimmAttention) -> None:
        super().__init__()
        self._layer = layer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {} if kwargs is None else kwargs
        if func is F.scaled_dot_product_attention:
            return _attention(self._layer, *args, **kwargs)
        return func(*args, **kwargs)


def _attention(
    layer: BinaryTimmAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """With the arguments of `scaled_dot_product_attention`."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, dim=-3), value.repeat_interleave(groups, dim=-3)
    if is_causal:
        shape = (query.shape[-2], key.shape[-2])
        attn_mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return layer.attend(query, key, value, attn_mask, scale, dropout_p)[0]

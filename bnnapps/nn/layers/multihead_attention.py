"""Binary `nn.MultiheadAttention`: its projections and its two products."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.nn.codes import linear
from bnnapps.nn.layers.attention import AttentionParts
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.layers.operands import LinearParts
from bnnapps.nn.spec import AttentionSpec
from bnnapps.nn.weights import WeightBinarizer


class MultiheadParts(AttentionParts):
    """Binarizers of the products, and of the four projections."""

    def __init__(self, spec: AttentionSpec, attention: nn.MultiheadAttention) -> None:
        like = attention.out_proj.weight
        super().__init__(spec, attention.head_dim, like)
        weights = projection_weights(attention)
        self.projections = nn.ModuleDict({n: LinearParts(spec.projection, w, w.shape[1]) for n, w in weights.items()})

    def project(self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """One binary projection, as in `BinaryLinear`."""
        left, right = self.projection(name).operands(x, weight)
        return linear(left, right, bias)

    def projection(self, name: str) -> LinearParts:
        """The binarizers of one projection: q, k, v or out."""
        parts = self.projections[name]
        assert isinstance(parts, LinearParts)
        return parts


class BinaryMultiheadAttention(BinaryLayer[AttentionSpec], nn.MultiheadAttention):
    """`nn.MultiheadAttention` whose projections and products are binary.

    Arguments and inputs as in the float class, plus `spec`: padding and attention masks, `bias_k`, `add_zero_attn`,
    unbatched inputs and `batch_first` included. The packed `in_proj_weight` is three weights with scales of their
    own. Nested tensors are not taken.
    """

    replaces = nn.MultiheadAttention
    binary: MultiheadParts

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        spec: AttentionSpec | None = None,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            dropout,
            bias,
            add_bias_kv,
            add_zero_attn,
            kdim,
            vdim,
            batch_first,
            device,
            dtype,
        )
        spec = AttentionSpec() if spec is None else spec
        self.attach(spec, self.make_parts(spec))

    def make_parts(self, spec: AttentionSpec) -> MultiheadParts:
        """The binarizers for this attention."""
        with torch.enable_grad():  # views of a packed weight are to say whether it trains
            return MultiheadParts(spec, self)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention.forward`."""
        if query.is_nested:
            raise ValueError("a binary nn.MultiheadAttention takes no nested tensors: pad the batch instead")
        if is_causal and attn_mask is None:
            raise ValueError("is_causal is a hint about attn_mask: pass attn_mask too")
        batched = query.dim() == 3
        query, key, value = (self._batch_first(x, batched) for x in (query, key, value))
        q, k, v = self._projected(query, key, value)
        mask = self._mask(query, key, attn_mask, key_padding_mask)
        k, v, mask = self._extended(k, v, mask)
        dropout = self.dropout if self.training else 0.0
        context, weights = self.attend(self._heads(q), self._heads(k), self._heads(v), mask, dropout)
        merged = context.transpose(1, 2).reshape(query.shape[0], query.shape[1], self.embed_dim)
        output = self.binary.project("out", merged, self.out_proj.weight, self.out_proj.bias)
        if not batched:
            output, weights = output.squeeze(0), weights.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        if not need_weights:
            return output, None
        return output, weights.mean(dim=-3) if average_attn_weights else weights

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
    ) -> tuple[Tensor, Tensor]:
        """See `AttentionParts.attend`."""
        return self.binary.attend(query, key, value, mask, 1.0 / math.sqrt(self.head_dim), dropout)

    def _batch_first(self, x: Tensor, batched: bool) -> Tensor:
        if not batched:
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim).transpose(1, 2)

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        weights = projection_weights(self)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(
            self.binary.project(name, x, weights[name], b)
            for name, x, b in zip("qkv", (query, key, value), biases, strict=True)
        )

    def _mask(self, query: Tensor, key: Tensor, attn_mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
        """Both masks as one that is added to the scores, shape (B or 1, H or 1, L, S)."""
        total: Tensor | None = None
        if attn_mask is not None:
            total = _added(attn_mask, query.dtype)
            if total.dim() == 3:  # (B * H, L, S)
                total = total.view(-1, self.num_heads, *total.shape[1:])
            else:
                total = total.view(1, 1, *total.shape)
        if padding is not None:
            padding = _added(padding, query.dtype).view(key.shape[0], 1, 1, key.shape[1])
            total = padding if total is None else (total + padding).clamp(min=torch.finfo(query.dtype).min)
        return total

    def _extended(self, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values with `bias_k`, `bias_v` and the zero position appended, where the module has them."""
        batch = k.shape[0]
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(batch, 1, -1)], dim=1)
            v = torch.cat([v, self.bias_v.expand(batch, 1, -1)], dim=1)
            mask = None if mask is None else F.pad(mask, (0, 1))
        if self.add_zero_attn:
            k = F.pad(k, (0, 0, 0, 1))
            v = F.pad(v, (0, 0, 0, 1))
            mask = None if mask is None else F.pad(mask, (0, 1))
        return k, v, mask

    def constrain(self) -> None:
        """Apply the constraints of the projections and of the learned scales."""
        self.binary.constrain()
        for name, weight in projection_weights(self).items():
            self.binary.projection(name).constrain(weight)

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The weights of the four projections."""
        packed = self._qkv_same_embed_dim
        keys = {n: "in_proj_weight" if packed else f"{n}_proj_weight" for n in "qkv"} | {"out": "out_proj.weight"}
        weights = projection_weights(self)
        return [found for n, key in keys.items() for found in self.binary.projection(n).latent(key, weights[n])]

    def binary_tensors(self) -> dict[str, Tensor]:
        """The projections as deployment has them; packed ones stay packed."""
        found = {n: self.binary.projection(n).deployed(w) for n, w in projection_weights(self).items()}
        out = {"out_proj.weight": found.pop("out")}
        if self._qkv_same_embed_dim:
            return {"in_proj_weight": torch.cat(list(found.values()))} | out
        return {f"{n}_proj_weight": w for n, w in found.items()} | out

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if any(binarizer.spec.kind == "split" for _, _, binarizer in self.latents()):
            # The child first, since its weight is one to split; whatever is wrong with it is reported in its turn.
            self.out_proj._load_from_state_dict(state_dict, f"{prefix}out_proj.", {}, False, [], [], [])
        super()._load_from_state_dict(state_dict, prefix, *args)


def projection_weights(attention: nn.MultiheadAttention) -> dict[str, Tensor]:
    """The latent weights of the four projections; of a packed `in_proj_weight`, views."""
    if attention._qkv_same_embed_dim:
        assert attention.in_proj_weight is not None
        weights = attention.in_proj_weight.chunk(3)
    else:
        weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
    return {**dict(zip("qkv", weights, strict=True)), "out": attention.out_proj.weight}


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask (boolean: true may not attend, as in `nn.MultiheadAttention`) as something added to scores."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, torch.finfo(dtype).min)

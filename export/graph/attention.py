"""The deployed form of a binary self-attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.export.graph.layers import DeployedLinear
from bnnapps.export.graph.product import Pairwise
from bnnapps.export.graph.quantizer import Quantizer
from bnnapps.nn.layers import (
    BinaryHFSelfAttention,
    BinaryMultiheadAttention,
    BinaryShiftedWindowAttention,
    BinaryTimmAttention,
)
from bnnapps.nn.layers.attention import AttentionParts
from bnnapps.nn.layers.base import Parts
from bnnapps.nn.layers.hf_attention import head_size
from bnnapps.nn.layers.operands import LinearParts
from bnnapps.nn.layers.timm_attention import head_size as timm_head_size

Projecting = BinaryMultiheadAttention | BinaryShiftedWindowAttention
Attending = Projecting | BinaryHFSelfAttention | BinaryTimmAttention


class DeployedAttention(Parts):
    """Takes the place of `AttentionParts` inside an attention layer: the same `attend`, from primitive operators."""

    def __init__(self, site: str, parts: AttentionParts, head: int | None) -> None:
        super().__init__()
        self.softmax = parts.softmax
        self.query = Quantizer(f"{site}/query", parts.query)
        self.key = Quantizer(f"{site}/key", parts.key)
        self.value = Quantizer(f"{site}/value", parts.value)
        self.weights = Quantizer(f"{site}/weights", parts.weights)
        self.scores = Pairwise(f"{site}/scores", head, self.query.largest, self.key.largest, transpose=True)
        self.context = Pairwise(f"{site}/context", None, self.weights.largest, self.value.largest)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float,
        dropout: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Context and attention weights, as `AttentionParts.attend` computes them outside of training."""
        scores = self.scores(self.query(query), self.key(key))
        scores = _scaled(scores, self.query.alpha, self.key.alpha) * scaling
        if mask is not None:
            lowest = torch.finfo(scores.dtype).min
            scores = torch.where(mask, scores, lowest) if mask.dtype == torch.bool else scores + mask
        if self.softmax:
            scores = torch.softmax(scores, dim=-1)
        weights = self.weights(scores)
        context = _scaled(self.context(weights, self.value(value)), self.weights.alpha, self.value.alpha)
        return context, _scaled(weights, self.weights.alpha)


class DeployedProjected(DeployedAttention):
    """Takes the place of the parts of an attention that also holds its projections."""

    def __init__(self, site: str, attention: Projecting) -> None:
        super().__init__(site, attention.binary, _head_size(attention))
        self.projections = nn.ModuleDict(
            {
                name: DeployedLinear(f"{site}/{name}", parts, weight, None)
                for name, (parts, weight) in projection_weights(attention).items()
            }
        )

    def project(self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """One projection; the latent weight that the layer hands over is not used."""
        projected: Tensor = self.projections[name](x)
        return projected if bias is None else projected + bias


def projection_weights(attention: Projecting) -> dict[str, tuple[LinearParts, Tensor]]:
    """The parts and the latent weight of each projection, by the name that the layer uses: q, k, v, out; qkv, proj."""
    if isinstance(attention, BinaryShiftedWindowAttention):
        weights = {"qkv": attention.qkv.weight, "proj": attention.proj.weight}
    else:
        weights = _multihead_weights(attention)
    found: dict[str, tuple[LinearParts, Tensor]] = {}
    for name, weight in weights.items():
        parts = attention.binary.projections[name]
        assert isinstance(parts, LinearParts)
        found[name] = parts, weight
    return found


def _multihead_weights(attention: BinaryMultiheadAttention) -> dict[str, Tensor]:
    if attention._qkv_same_embed_dim:
        assert attention.in_proj_weight is not None
        inputs = attention.in_proj_weight.chunk(3)
    else:
        inputs = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
    return dict(zip(("q", "k", "v", "out"), (*inputs, attention.out_proj.weight), strict=True))


def deployed_attention(site: str, layer: Attending) -> DeployedAttention:
    """The parts of an attention as they are deployed."""
    if isinstance(layer, (BinaryMultiheadAttention, BinaryShiftedWindowAttention)):
        return DeployedProjected(site, layer)
    return DeployedAttention(site, layer.binary, _head_size(layer))


def _head_size(layer: Attending) -> int | None:
    """Features of a head, where they are known."""
    if isinstance(layer, BinaryMultiheadAttention):
        return int(layer.head_dim)
    if isinstance(layer, BinaryShiftedWindowAttention):
        return layer.proj.in_features // layer.num_heads
    return timm_head_size(layer) if isinstance(layer, BinaryTimmAttention) else head_size(layer)


def _scaled(values: Tensor, *scales: Tensor | None) -> Tensor:
    for scale in scales:
        values = values if scale is None else values * scale
    return values

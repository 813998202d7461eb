"""The two products of a self-attention, with binary operands."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.nn import functional as BF
from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.codes import Codes, as_operand, multiply
from bnnapps.nn.layers.base import Parts
from bnnapps.nn.layers.operands import activation_binarizer, codes_of
from bnnapps.nn.spec import AttentionSpec


class AttentionParts(Parts):
    """The binarizers of query, key, value and attention weights; `None` keeps that operand real.

    `scores` is an identity: a place where a forward hook can tap the scores (query times key, scaled, before the
    mask), shape (B, H, L, S).
    """

    query: ActivationBinarizer | None
    key: ActivationBinarizer | None
    value: ActivationBinarizer | None
    weights: ActivationBinarizer | None

    def __init__(self, spec: AttentionSpec, head_size: int, like: Tensor) -> None:
        super().__init__()
        self.softmax = spec.softmax
        self.query = activation_binarizer(spec.query, head_size, like)
        self.key = activation_binarizer(spec.key, head_size, like)
        self.value = activation_binarizer(spec.value, head_size, like)
        self.weights = activation_binarizer(spec.weights, head_size, like)
        self.scores = nn.Identity()

    def constrain(self) -> None:
        """Keep learned scales positive."""
        for binarizer in (self.query, self.key, self.value, self.weights):
            if binarizer is not None:
                binarizer.constrain()

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float,
        dropout: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Context and attention weights.

        scores = codes(query) codes(key)^T * scaling; weights = quantizer(softmax(scores + mask)), or, without the
        softmax (Bi-Attention of BiBERT, 2022), quantizer(scores + mask), where the quantizer with codes {0, 1}
        attends to every position whose score is not negative; context = weights codes(value), not normalised.

        Dropout takes probabilities before the quantizer, as published; without a softmax it takes attended
        positions away (their score becomes the lowest number), and nothing is rescaled.

        Args:
            query: (B, H, L, d).
            key: (B, H, S, d).
            value: (B, H, S, d).
            mask: broadcastable to (B, H, L, S): boolean (true: may attend) or added to the scores.
            scaling: usually 1 / sqrt(d).
            dropout: probability; 0 outside training.

        Returns:
            context (B, H, L, d) and weights (B, H, L, S).

        """
        q, k, v = codes_of(self.query, query), codes_of(self.key, key), codes_of(self.value, value)
        scores = self.scores(product_of(q, k, transpose=True) * scaling)
        lowest = torch.finfo(scores.dtype).min  # not -inf: a query that may attend nowhere must not become NaN
        if mask is not None:
            scores = scores.masked_fill(~mask, lowest) if mask.dtype == torch.bool else scores + mask
        if self.softmax:
            scores = torch.softmax(scores, dim=-1)
        if dropout > 0 and self.softmax:
            scores = BF.dropout(scores, dropout)
            with BF.saved_as_made(scores):
                a = codes_of(self.weights, scores)
        else:
            a = codes_of(self.weights, BF.drop_scores(scores, dropout) if dropout > 0 else scores)
        context = product_of(a, v)
        weights = a.codes.detach() if a.scale is None else a.codes.detach() * a.scale
        return context, weights


def product_of(left: Codes, right: Codes, transpose: bool = False) -> Tensor:
    """left times right (or right transposed), scales included."""

    def matmul(a: Tensor, b: Tensor) -> Tensor:
        return torch.matmul(a, b.transpose(-1, -2) if transpose else b)

    # Operands that fill their memory without gaps can be kept as bits.
    left, right = (o._replace(codes=o.codes.contiguous()) for o in (left, right))
    product = multiply(matmul, left, right)
    for scale in (left.scale, right.scale):
        product = product if scale is None else product * scale
    return as_operand(product, left)

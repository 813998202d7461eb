"""Binary embedding: one bit an entry, one scale a row."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.errors import BinarizeError
from bnnapps.nn.codes import Codes
from bnnapps.nn.layers.base import BinaryLayer, Parts
from bnnapps.nn.spec import EmbeddingSpec
from bnnapps.nn.weights import WeightBinarizer


class EmbeddingParts(Parts):
    """The binarizer of the table."""

    def __init__(self, spec: EmbeddingSpec, weight: Tensor) -> None:
        super().__init__()
        self.weight = WeightBinarizer(spec.weight, weight)


class BinaryEmbedding(BinaryLayer[EmbeddingSpec], nn.Embedding):
    """Row i of the binarized table for index i; a row is binarized when it is looked up.

    Statistics of a row (its mean, its mean |w|) need that row alone; statistics of the layer are taken from the
    whole table. Arguments as in `nn.Embedding`, plus `spec`.

    Shapes: indices of any shape (*) -> (*, embedding_dim).
    """

    replaces = nn.Embedding
    binary: EmbeddingParts

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        spec: EmbeddingSpec | None = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight,
            _freeze,
            device,
            dtype,
        )
        spec = EmbeddingSpec() if spec is None else spec
        self.attach(spec, self.make_parts(spec))

    def make_parts(self, spec: EmbeddingSpec) -> EmbeddingParts:
        """The binarizer for this table.

        Raises:
            BinarizeError: a split table with `sparse` or `max_norm`, which have to act on one latent table.

        """
        if spec.weight.kind == "split" and (self.sparse or self.max_norm is not None):
            raise BinarizeError(
                "an embedding with sparse gradients or max_norm cannot be split: keep it, or unset both"
            )
        return EmbeddingParts(spec, self.weight)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.Embedding
        """The binarized rows."""
        binarizer = self.binary.weight
        if self.spec.weight.kind == "split":
            return self._look_up(input, binarizer(self.weight).codes)
        rows = self._look_up(input, self.weight)
        found: Codes = binarizer(rows.reshape(-1, self.embedding_dim), self.weight)
        return found.values().view(rows.shape)

    def _look_up(self, indices: Tensor, table: Tensor) -> Tensor:
        return F.embedding(
            indices,
            table,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )

    def constrain(self) -> None:
        """Apply the constraint of the latent table."""
        self.binary.weight.constrain(self.weight)

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The table."""
        return [("weight", self.weight, self.binary.weight)]

    def binary_tensors(self) -> dict[str, Tensor]:
        """The table as deployment has it."""
        with torch.no_grad():
            found: Codes = self.binary.weight(self.weight)
            return {"weight": found.values()}

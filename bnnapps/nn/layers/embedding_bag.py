"""Binary embedding bag: rows of one bit an entry, summed, averaged or maximized."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.errors import BinarizeError
from bnnapps.nn.codes import Codes
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.layers.embedding import EmbeddingParts
from bnnapps.nn.spec import EmbeddingSpec
from bnnapps.nn.weights import WeightBinarizer


class BinaryEmbeddingBag(BinaryLayer[EmbeddingSpec], nn.EmbeddingBag):
    """`nn.EmbeddingBag` of the binarized table; rows are binarized when they are looked up, as in `BinaryEmbedding`.

    Arguments and inputs as in the float class, plus `spec`: every mode, offsets, per-sample weights and padding.

    Shapes: (B, N), or (N,) with B offsets -> (B, embedding_dim).
    """

    replaces = nn.EmbeddingBag
    binary: EmbeddingParts

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        spec: EmbeddingSpec | None = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            _weight,
            include_last_offset,
            padding_idx,
            device,
            dtype,
        )
        spec = EmbeddingSpec() if spec is None else spec
        self.attach(spec, self.make_parts(spec))

    @staticmethod
    def check_spec(name: str, module: nn.Module, spec: EmbeddingSpec) -> None:
        """Refuse to split a table with `sparse` or `max_norm`."""
        _one_latent_table(module, spec, f"'{name}', an embedding bag")

    def make_parts(self, spec: EmbeddingSpec) -> EmbeddingParts:
        """The binarizer for this table.

        Raises:
            BinarizeError: a split table with `sparse` or `max_norm`, which have to act on one latent table.

        """
        _one_latent_table(self, spec, "an embedding bag")
        return EmbeddingParts(spec, self.weight)

    def forward(
        self,
        input: Tensor,  # noqa: A002 - as in nn.EmbeddingBag
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        """The bags of binarized rows."""
        if self.mode == "max" and (self.sparse or self.scale_grad_by_freq):
            raise ValueError("an embedding bag of mode 'max' has neither sparse gradients nor scale_grad_by_freq")
        indices = input.values() if input.is_nested else input
        values = self._look_up(indices.reshape(-1))
        if self.spec.weight.kind != "split":
            rows: Codes = self.binary.weight(values, self.weight)
            values = rows.values()
        # Each place in the input is a row of its own now; all padding shares one more row, which no bag takes in.
        places = torch.arange(indices.numel(), device=input.device).to(input.dtype).view(indices.shape)
        padding = None
        if self.padding_idx is not None:
            padding = indices.numel()
            places = places.masked_fill(indices == self.padding_idx, padding)
            values = F.pad(values, (0, 0, 0, 1))
        if input.is_nested:
            nested: Any = input
            places = torch.nested.nested_tensor_from_jagged(places, nested.offsets())
        return F.embedding_bag(
            places,
            values,
            offsets,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=padding,
        )

    def _look_up(self, indices: Tensor) -> Tensor:
        """The latent rows; of a split table, the rows of its sum."""
        whole: Codes | None = self.binary.weight(self.weight) if self.spec.weight.kind == "split" else None
        # F.embedding divides by the frequency of the index; F.embedding_bag of PyTorch 2.11, on a CPU, by another's.
        return F.embedding(
            indices,
            self.weight if whole is None else whole.codes,
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


def _one_latent_table(module: nn.Module, spec: EmbeddingSpec, layer: str) -> None:
    assert isinstance(module, nn.EmbeddingBag)
    if spec.weight.kind == "split" and (module.sparse or module.max_norm is not None):
        raise BinarizeError(f"{layer} with sparse gradients or max_norm cannot be split: keep it, or unset both")

"""Word embeddings of Hugging Face models that multiply what they look up by a constant (BART, mBART, Gemma ...)."""

from __future__ import annotations

from torch import Tensor, nn

from bnnapps.nn.layers.embedding import BinaryEmbedding


def is_scaled_embedding(module: nn.Module) -> bool:
    """Whether the module is one of transformers' scaled word embeddings."""
    kind = type(module)
    return (
        isinstance(module, nn.Embedding)
        and kind.__module__.startswith("transformers.models.")
        and kind.__name__.endswith("ScaledWordEmbedding")
        and hasattr(module, "embed_scale")
    )


class BinaryScaledEmbedding(BinaryEmbedding):
    """Binary rows, as `BinaryEmbedding` looks them up, times the constant `embed_scale` of the float class."""

    embed_scale: Tensor | float

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.Embedding
        """The scaled rows."""
        rows = super().forward(input)
        scale = self.embed_scale
        return rows * (scale.to(rows.dtype) if isinstance(scale, Tensor) else scale)

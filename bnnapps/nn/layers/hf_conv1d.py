"""The `Conv1D` of Hugging Face's GPT models: a linear layer whose weight is stored transposed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.nn.layers.linear_like import BinaryLinearLike
from bnnapps.nn.layers.operands import LinearParts
from bnnapps.nn.spec import LinearSpec


def is_hf_conv1d(module: nn.Module) -> bool:
    """Whether the module is transformers' `Conv1D`, whatever version of the library it comes from."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__ in (
        "transformers.pytorch_utils",
        "transformers.modeling_utils",
    )


class BinaryHFConv1D(BinaryLinearLike):
    """y = s (codes(x) @ codes(W)) + bias with W of shape (in, out): a filter is a column.

    Statistics of a filter (its scale, its mean) are those of its column. The class is made from transformers' own:
    `BinaryConv1D(BinaryHFConv1D, Conv1D)`.

    Shapes: (..., in) -> (..., out).

    """

    @property
    def matrix(self) -> Tensor:
        """The latent weight, transposed: (out, in)."""
        return self.weight.t()

    def make_parts(self, spec: LinearSpec) -> LinearParts:
        """The binarizers for this layer."""
        with torch.enable_grad():  # a view of the weight is to say whether it trains
            return LinearParts(spec, self.weight.t(), self.weight.shape[0])

    def binary_tensors(self) -> dict[str, Tensor]:
        """The weight as deployment has it, (in, out) as it is stored."""
        return {"weight": self.binary.deployed(self.matrix).t()}

"""The `Linear` of PyTorch Geometric, which most of its convolutions are made of."""

from __future__ import annotations

from torch import nn

from bnnapps.nn.layers.linear_like import BinaryLinearLike


def is_pyg_linear(module: nn.Module) -> bool:
    """Whether the module is PyG's `Linear`."""
    kind = type(module)
    return kind.__name__ == "Linear" and kind.__module__ == "torch_geometric.nn.dense.linear"


class BinaryPyGLinear(BinaryLinearLike):
    """As `BinaryLinear`. The class is made from PyG's own: `BinaryLinear(BinaryPyGLinear, Linear)`.

    One that does not know its size yet (`in_channels=-1`) is refused when a plan is made: run the model once first.

    Shapes: (..., in) -> (..., out).

    """

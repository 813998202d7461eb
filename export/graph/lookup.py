"""The deployed form of a layer of lookup tables: constant wires, constant entries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.nn.layers import BinaryLookup


class DeployedLookup(nn.Module):
    """Reads entry sum_j 2^j [x_j >= 0] of each table, as the binary layer does.

    Args:
        layer: which one.

    """

    wires: Tensor
    powers: Tensor
    first: Tensor
    table: Tensor

    def __init__(self, layer: BinaryLookup) -> None:
        super().__init__()
        table = layer.binary_tensors()["weight"]
        outputs, size = table.shape
        self.outputs, self.inputs = outputs, layer.inputs
        self.register_buffer("wires", layer.chosen_wires().detach().reshape(-1).clone())
        self.register_buffer("powers", torch.tensor([1 << j for j in range(layer.inputs)]))
        self.register_buffer("first", torch.arange(outputs) * size)
        self.register_buffer("table", table.reshape(-1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) to (N, out_features)."""
        bits = (x.index_select(1, self.wires) >= 0).long().view(-1, self.outputs, self.inputs)
        return self.table[(bits * self.powers).sum(dim=-1) + self.first]

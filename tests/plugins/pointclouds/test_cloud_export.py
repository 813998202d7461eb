"""A binary PointNet in a runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import bnnapps
import bnnapps.export
from bnnapps.nn import Aggregation
from bnnapps.plugins.pointclouds.layers import PointUnit


class Tiny(nn.Module):
    """One unit on every point, an aggregation, a layer that reads its signs, and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.unit, self.pool = PointUnit(3, 16, act=False), Aggregation("max")
        self.fc, self.matrix, self.scores = PointUnit(16, 8), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.scores(self.matrix(self.fc(self.pool(self.unit(x)))))
        return y


@pytest.mark.parametrize("dialect", ["portable", "packed"])
def test_aggregation_and_recovered_scale_in_a_runtime(dialect: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 24, 3)
    model = bnnapps.binarize(Tiny(), "bipointnet", example_inputs=x)
    for bn in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d)):
        nn.init.uniform_(bn.weight, 0.5, 1.5)
        nn.init.normal_(bn.bias)
    model.train()(x)
    assert model.matrix.binary.output.factors[0].item() != 1
    path = tmp_path / "model.onnx"
    bnnapps.export.export(model.eval(), x, path, dialect=dialect)
    assert json.loads((tmp_path / "model.parity.json").read_text())["verdict"] == "exact"
    other = torch.randn(2, 24, 3)
    session = bnnapps.export.load(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    assert torch.allclose(torch.from_numpy(found), model(other), atol=1e-5)

"""Graph convolutions as ONNX files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv

import bnnapps
from bnnapps.export import export


class TwoConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GCNConv(24, 16), GCNConv(16, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        found: Tensor = self.second(self.first(x, edges), edges)
        return found


@pytest.mark.parametrize("dialect", ["portable", "packed"])
def test_binary_convolutions_of_a_graph(tmp_path: Path, dialect: str) -> None:
    torch.manual_seed(0)
    x, edges = torch.randn(10, 24), torch.randint(10, (2, 30))
    model = TwoConvolutions()
    bnnapps.binarize(model, {"rules": [{"types": ["pyg.Linear"], "use": "bigcn"}], "keep_first": 0, "keep_last": 0})
    found = export(model.eval(), (x, edges), tmp_path / "model.onnx", dialect=dialect)  # type: ignore[arg-type]
    assert found.parity.verdict == "exact"
    session = bnnapps.export.load(tmp_path / "model.onnx")
    names = [one.name for one in session.get_inputs()]
    (output,) = session.run(None, dict(zip(names, (x.numpy(), edges.numpy()), strict=True)))
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(output), model(x, edges), atol=1e-5, rtol=1e-4)
    assert (b"BinaryDense" in (tmp_path / "model.onnx").read_bytes()) == (dialect == "packed")

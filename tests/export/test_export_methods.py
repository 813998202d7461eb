"""Every method for convolutional networks, exported: codes equal, sums equal, no flip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnnapps
import bnnapps.export
from bnnapps.methods import methods

CASES: list[tuple[str, dict[str, Any]]] = [(m.name, {}) for m in methods() if "conv" in m.layers]
CASES += [("adabin", {"pad_value": 1}), ("dorefa", {"activation_bits": 2}), ("bireal", {"activation.scale": "sample"})]


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 1),
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 4, 3, stride=2),
        nn.Flatten(),
        nn.Linear(16, 8),
        nn.Linear(8, 3),
    )


@pytest.mark.parametrize(("method", "overrides"), CASES)
def test_the_exported_network_is_exact(method: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, 5, 5)
    model = bnnapps.binarize(network(), {"method": method, "overrides": overrides}, example_inputs=x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model(torch.randn(8, 2, 5, 5))
    result = bnnapps.export.export(model.eval(), x, tmp_path / "model.onnx", dialect="portable")
    assert result.parity.verdict == "exact"
    assert all(level.sign_flips == 0 and level.codes > 0 for level in result.parity.levels)
    session = bnnapps.export.load(tmp_path / "model.onnx")
    found: Tensor = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    assert torch.allclose(found, model(x).detach(), atol=1e-4)

"""Keyword networks as ONNX files, at each depth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import bnnapps
from bnnapps.export import export
from bnnapps.plugins.keywords.dfsmn import DFSMN, at_option


def trained(network: nn.Module) -> nn.Module:
    """With statistics as a training leaves them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return network.eval()


@pytest.mark.parametrize(("method", "option"), [("bifsmn", 0), ("bifsmn", 1), ("bifsmnv2", 1)])
def test_each_depth_is_a_packed_file_of_its_own(tmp_path: Path, method: str, option: int) -> None:
    torch.manual_seed(0)
    network = DFSMN(5, rows=16, columns=16, channels=8, hidden=16, depth=2, options=2)
    bnnapps.binarize(network, method)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".binary." in name:
                parameter.add_(0.1 * torch.rand_like(parameter))
    pictures = torch.randn(3, 1, 16, 16)
    with at_option(trained(network), option):
        found = export(network, pictures, tmp_path / "model.onnx", dialect="packed")
        assert found.parity.verdict == "exact"
        assert found.parity.sign_flips == 0
        with torch.no_grad():
            expected = network(pictures)
    session = bnnapps.export.load(tmp_path / "model.onnx")
    (logits,) = session.run(None, {session.get_inputs()[0].name: pictures.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=1e-4)

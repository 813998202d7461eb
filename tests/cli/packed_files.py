"""Small exported files for the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import bnnapps
import bnnapps.export


def network() -> nn.Module:
    """A real convolution, a binary one, and a binary linear layer."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(256, 3))
    return nn.Sequential(*layers).eval()


def export_all(folder: Path) -> Path:
    """`packed.onnx`, `portable.onnx` and `float.onnx`: the same network, with a batch of any size."""
    example = torch.randn(2, 3, 6, 6)
    bnnapps.export.export(network(), example, folder / "float.onnx")
    rules = [{"types": ["conv2d", "linear"], "use": "bnn"}, {"match": "0", "keep": "the first stays real"}]
    binary = bnnapps.binarize(network(), rules, keep_first=0, keep_last=0)
    for dialect in ("packed", "portable"):
        bnnapps.export.export(binary, example, folder / f"{dialect}.onnx", dialect=dialect)
    return folder

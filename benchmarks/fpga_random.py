"""A packed file of one of FINN's or BinaryCoP's networks with random weights, for sizes and rates of `bnnapps fpga`.

The weights are uniform, the norms normal, of either sign.

python benchmarks/fpga_random.py cnv_mu cnv_mu.onnx --classes 4
bnnapps fpga cnv_mu.onnx --target ecp5-85k --fps 3000
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

import bnnapps
from bnnapps.export import export
from bnnapps.models import build, get_model
from bnnapps.models.finn import TensorNorm

NAMES = ("tfc", "sfc", "lfc", "cnv", "cnv_n", "cnv_mu")


def drawn(model: nn.Module, seed: int) -> nn.Module:
    """With norms of either sign whose means and variances are of the size of the sums in front of them."""
    generator = torch.Generator().manual_seed(seed)
    fan = 1
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan = module.weight[0].numel()
            module.weight.data.uniform_(-1, 1, generator=generator)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.data.normal_(generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
            module.running_mean.normal_(0, fan**0.5 / 2, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(fan / 2, 2 * fan, generator=generator)  # type: ignore[union-attr]
        elif isinstance(module, TensorNorm):
            module.running_var.fill_(fan)
    return model.eval()


def pack(name: str, path: Path, classes: int = 10, seed: int = 0) -> None:
    """Write the packed file."""
    entry = get_model(name)
    colours = 3 if name.startswith("cnv") else 1
    model = drawn(build(name, classes, colours), seed)
    x = torch.rand(2, colours, *entry.input_size, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    method: Any = entry.method
    bnnapps.binarize(model, **method, example_inputs=x)
    for module in model.modules():
        if isinstance(alpha := getattr(module, "alpha", None), nn.Parameter):
            alpha.data.fill_(1 / 100)
    export(model, x, path, dialect="packed")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=NAMES)
    parser.add_argument("file", type=Path)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pack(given.network, given.file, given.classes, given.seed)


if __name__ == "__main__":
    main()

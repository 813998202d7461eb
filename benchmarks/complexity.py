"""Operations and sizes of published binary networks, ours beside the published figures.

Each network is built with random weights, binarized by the method that it was published with, and counted on one image
(`bnnapps.summarize`). Three countings of operations, all with BOPs / 64 for the products of codes:

* papers: multiply-accumulates of convolutions and linear layers (`ops_paper`);
* all ops: the same, and one operation for each output element of every other float operator (`ops_all`);
* arithmetic: the same products, and the additions, multiplications and comparisons of all other operators:
  two for each element of BatchNorm and PReLU, four of RPReLU, one for each sign, gate and shortcut element, one for
  each input of a pooling window. The scale of a binary weight is a part of the BatchNorm behind it and costs nothing.

Sizes: one bit for a binary weight, four bytes for any other number. "With statistics" adds the running means and
variances of the BatchNorms, which a deployed network has no use for, but which some published sizes hold.

    python benchmarks/complexity.py            # prints the tables of docs/results/complexity.md
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import bnnapps
from bnnapps.models import get_model
from bnnapps.nn import BinaryConv2d, RPReLU
from bnnapps.nn.blocks import BiRealBlock, ImprovementLayer, QuickBlock, ReActBlock
from bnnapps.nn.layers import ResidualBlock

MIB = 2**20


@dataclass(frozen=True)
class Published:
    """A network, the method, and its published figures: operations in 1e8, and the size in what its source calls MB."""

    model: str
    method: Any = None
    ops: float | None = None
    size: float | None = None


ROWS = (
    Published("bireal18", ops=1.63, size=4.03),
    Published("bireal34", ops=1.93),
    Published("resnet18", "xnor", ops=1.67),
    Published("real2binary18", ops=1.83, size=5.13),
    Published("reactnet_a", ops=0.87),
    Published("binary_densenet28", size=4.12),
    Published("binary_densenet37", size=5.25),
    Published("binary_densenet45", size=7.54),
    Published("meliusnet22", ops=2.1, size=3.88),
    Published("meliusnet29", ops=2.1),
    Published("quicknet_small", size=4.00),
    Published("quicknet", size=4.17),
    Published("quicknet_large", size=5.40),
)


@dataclass(frozen=True)
class Found:
    """What was counted: operations of each counting in 1e8, and bytes."""

    papers: float
    all_ops: float
    arithmetic: float
    bops: float
    flops: float
    packed: int
    statistics: int

    @property
    def with_statistics(self) -> int:
        """Bytes with the running statistics of the BatchNorms in use."""
        return self.packed + self.statistics


def count(row: Published) -> Found:
    """Build, binarize and count one network."""
    torch.manual_seed(0)
    entry = get_model(row.model)
    model = entry.make(num_classes=entry.num_classes, in_channels=3)
    image = torch.zeros(1, 3, *entry.input_size)
    bnnapps.binarize(model, entry.method if row.method is None else row.method, example_inputs=image)
    found = bnnapps.summarize(model, image)
    resting = {id(p) for m in model.modules() if isinstance(m, ResidualBlock) for p in m.resting()}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and id(m.weight) not in resting]
    return Found(
        papers=found.ops_paper / 1e8,
        all_ops=found.ops_all / 1e8,
        arithmetic=(found.ops_paper + arithmetic(model, image)) / 1e8,
        bops=found.bops / 1e9,
        flops=found.flops / 1e8,
        packed=found.packed_bytes,
        statistics=sum(2 * 4 * m.num_features for m in norms),
    )


@torch.no_grad()
def arithmetic(model: nn.Module, image: Tensor) -> int:
    """Additions, multiplications and comparisons outside of convolutions and linear layers, for one forward pass."""
    total = 0

    def watch(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += _operations(module, args[0], output)

    handles = [m.register_forward_hook(watch) for m in model.modules()]
    was_training = model.training
    try:
        model.eval()(image)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return total


def _operations(module: nn.Module, x: Tensor, y: Tensor) -> int:
    if isinstance(module, (nn.BatchNorm2d, nn.PReLU)):
        return 2 * y.numel()
    if isinstance(module, RPReLU):
        return 4 * y.numel()
    if isinstance(module, (nn.ReLU, nn.Hardtanh)):
        return y.numel()
    if isinstance(module, nn.MaxPool2d):
        return y.numel() * int(module.kernel_size) ** 2
    if isinstance(module, (nn.AvgPool2d, nn.AdaptiveAvgPool2d)):
        return x.numel()
    if isinstance(module, BinaryConv2d):
        spec = module.spec
        gate = spec.output is not None and spec.output.scale == "gate"
        shifted = spec.activation is not None and spec.activation.shift != "none"
        mapped = spec.activation is not None and spec.activation.scale == "input_map"
        # The sign and its shift; the mean that a gate or K is computed from; the product with the gate or K.
        return (1 + shifted + gate + 2 * mapped) * x.numel() + (gate + mapped) * y.numel()
    if isinstance(module, ResidualBlock):
        return y.numel() * sum(kind != "nothing" for kind in module.binary.added)
    if isinstance(module, BiRealBlock):
        return 2 * y.numel()
    if isinstance(module, QuickBlock):
        return y.numel()
    if isinstance(module, ImprovementLayer):
        return module.growth * y[0, 0].numel()
    if isinstance(module, ReActBlock):
        return module.act1.slope.numel() * y[0, 0].numel() + y.numel()
    return 0


def _difference(ours: float, published: float | None) -> str:
    return "" if published is None else f"{100 * (ours / published - 1):+.1f} %"


def _shown(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def tables(found: list[tuple[Published, Found]]) -> str:
    """Both tables in Markdown."""
    lines = [
        "| network | method | BOPs, 1e9 | FLOPs, 1e8 | OPs, papers' counting, 1e8 | published | difference "
        "| OPs, all ops, 1e8 | OPs, arithmetic, 1e8 |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row, f in found:
        cells = [f"{f.bops:.3f}", f"{f.flops:.3f}", f"{f.papers:.3f}", _shown(row.ops)]
        cells += [_difference(f.papers, row.ops), f"{f.all_ops:.3f}", f"{f.arithmetic:.3f}"]
        lines.append(f"| {row.model} | {_method(row)} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| network | packed, MB | packed, MiB | published | difference | with statistics, MiB | difference |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row, f in found:
        packed, more = f.packed / MIB, f.with_statistics / MIB
        cells = [f"{f.packed / 1e6:.3f}", f"{packed:.3f}", _shown(row.size), _difference(packed, row.size)]
        lines.append(f"| {row.model} | " + " | ".join([*cells, f"{more:.3f}", _difference(more, row.size)]) + " |")
    return "\n".join(lines)


def _method(row: Published) -> str:
    method = get_model(row.model).method if row.method is None else row.method
    return method if isinstance(method, str) else f"{method['method']}, its own windows"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of networks")
    only = parser.parse_args().only
    print(tables([(row, count(row)) for row in ROWS if only is None or row.model in only]))


if __name__ == "__main__":
    main()

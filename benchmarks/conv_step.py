"""Time and memory of a training step of a convolutional network: binarized against float, the same random images.

The binarized network is measured twice: with the gradient as published, and with the multiplier of the gradient of the
sign kept in a few bits (`activation.estimator.keep_bits`). What else is measured, and how: see `steps.py`.

    python benchmarks/conv_step.py --model bireal18 --batch 8 --edge 224 --threads 2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from steps import Step, compare, growth_in_a_process, peak_growth, spread, table
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.models import build
from bnnapps.profile.memory import kept_for_backward
from bnnapps.text import render

CLASSES = 1000


def network(kind: str, options: argparse.Namespace) -> nn.Module:
    """The network in training mode: "float", "exact", or with a few bits."""
    torch.manual_seed(0)
    model = build(options.model, CLASSES).train()
    if kind == "float":
        return model
    if kind == "exact":
        return bnnapps.binarize(model, options.method)
    names = [entry.name for entry in bnnapps.plan(model, options.method).binarized]
    use = {"method": options.method, "activation.estimator.keep_bits": options.keep_bits}
    rules = [Rule(match=name, use=use) for name in names]
    return bnnapps.binarize(model, rules, keep_first=0, keep_last=0)


def step_of(model: nn.Module, options: argparse.Namespace) -> Step:
    """A step on random images with random labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(options.batch, 3, options.edge, options.edge, generator=generator)
    labels = torch.randint(CLASSES, (options.batch,), generator=generator)

    def loss(model: nn.Module) -> Tensor:
        result: Tensor = nn.functional.cross_entropy(model(images), labels)
        return result

    return Step(model, loss)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one comparison."""
    kinds = ("float", "exact", f"{options.keep_bits} bits")
    steps = {kind: step_of(network(kind, options), options) for kind in kinds}
    found = compare(steps, options.repeat)
    by_layer = {kind: kept_for_backward(step.model, step.loss) for kind, step in steps.items()}
    passed = {k: getattr(options, k) for k in ("model", "method", "batch", "edge", "keep_bits", "threads")}
    growth = {kind: growth_in_a_process(__file__, kind, passed) for kind in kinds}
    return {**found, "peak_growth_bytes": growth, "kept_by_layer": by_layer}


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="bireal18")
    options.add_argument("--method", default="bireal")
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--edge", type=int, default=224, help="rows and columns of an image")
    options.add_argument("--keep-bits", type=int, default=2)
    options.add_argument("--repeat", type=int, default=15)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--child", help=argparse.SUPPRESS)
    return options


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(peak_growth(step_of(network(options.child, options), options))))
        return
    found = measure(options)
    title = (
        f"Training step of {options.model}, {options.method}, batch {options.batch}, {options.edge} x {options.edge}, "
        f"{options.threads} threads"
    )
    print(render(table(found, title)), *spread(found), sep="\n")
    if options.json:
        record = {k: v for k, v in vars(options).items() if k not in ("json", "child")}
        options.json.write_text(json.dumps({"options": record, "torch": torch.__version__, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()

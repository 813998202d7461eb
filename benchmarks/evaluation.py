"""Time of an evaluation of a convolutional network: binarized, on the kernels and without them, against float.

All take turns on the same random images; the figures are medians, on the clock and of processor time, of the network
and of the layers in it that become binary (convolution with its operands; in the float network the same layers).

    python benchmarks/evaluation.py --model bireal18 --batch 8 --edge 224 --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

import bnnapps
from bnnapps.models import build
from bnnapps.nn import kernels
from bnnapps.nn.layers.base import BinaryLayer

CLASSES = 1000
CASES = {"float": False, "floats of codes": False, "kernels": True}
"""What is measured, and whether the kernels are on."""
WHAT = ("on the clock", "of processor time", "in the layers that become binary")


def network(case: str, options: argparse.Namespace) -> nn.Module:
    """The network in evaluation mode."""
    torch.manual_seed(0)
    model = build(options.model, CLASSES)
    if case != "float":
        bnnapps.binarize(model, options.method)
    model = model.to(memory_format=torch.channels_last) if options.channels_last else model
    return model.eval()


class Clock:
    """Adds up how long the layers of some names take."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        self.total = self.start = 0.0
        for name in names:
            model.get_submodule(name).register_forward_pre_hook(self._starts)
            model.get_submodule(name).register_forward_hook(self._ends)

    def _starts(self, *_: object) -> None:
        self.start = time.perf_counter()

    def _ends(self, *_: object) -> None:
        self.total += time.perf_counter() - self.start


def timed(model: nn.Module, clock: Clock, x: Tensor, on: bool) -> tuple[float, float, float]:
    """Seconds on the clock, of processor time, and on the clock in the layers that become binary."""
    clock.total = 0.0
    with kernels(on), torch.no_grad():
        wall, processor = time.perf_counter(), time.process_time()
        model(x)
        return time.perf_counter() - wall, time.process_time() - processor, clock.total


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="bireal18")
    options.add_argument("--method", default="bireal")
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--edge", type=int, default=224, help="rows and columns of an image")
    options.add_argument("--channels-last", action="store_true")
    options.add_argument("--repeat", type=int, default=15)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    x = torch.randn(given.batch, 3, given.edge, given.edge)
    x = x.contiguous(memory_format=torch.channels_last) if given.channels_last else x
    models = {case: network(case, given) for case in CASES}
    names = [n for n, m in models["kernels"].named_modules() if isinstance(m, BinaryLayer) and hasattr(m, "weight")]
    clocks = {case: Clock(model, names) for case, model in models.items()}
    times: dict[str, list[tuple[float, float, float]]] = {case: [] for case in CASES}
    for turn in range(given.repeat + 2):
        for case, on in CASES.items():
            found = timed(models[case], clocks[case], x, on)
            if turn >= 2:  # memory pools fill, weights are packed
                times[case].append(found)
    medians = {case: [statistics.median(t) for t in zip(*found, strict=True)] for case, found in times.items()}
    for case, figures in medians.items():
        parts = [
            f"{1e3 * seconds:8.1f} ms {what} ({medians['float'][i] / seconds:.2f} times as fast as float)"
            for i, (seconds, what) in enumerate(zip(figures, WHAT, strict=True))
        ]
        print(f"{case:16}", ", ".join(parts))


if __name__ == "__main__":
    main()

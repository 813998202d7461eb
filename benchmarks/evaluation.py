"""Time of an evaluation of a convolutional network: binarized, on the kernels and without them, against float.

All take turns on the same random images; the figures are medians, on the clock and of processor time.

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

CLASSES = 1000
CASES = {"float": False, "floats of codes": False, "kernels": True}
"""What is measured, and whether the kernels are on."""


def network(case: str, options: argparse.Namespace) -> nn.Module:
    """The network in evaluation mode."""
    torch.manual_seed(0)
    model = build(options.model, CLASSES)
    if case != "float":
        bnnapps.binarize(model, options.method)
    model = model.to(memory_format=torch.channels_last) if options.channels_last else model
    return model.eval()


def timed(model: nn.Module, x: Tensor, on: bool) -> tuple[float, float]:
    """Seconds on the clock and of processor time."""
    with kernels(on), torch.no_grad():
        clock, processor = time.perf_counter(), time.process_time()
        model(x)
        return time.perf_counter() - clock, time.process_time() - processor


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
    times: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    for turn in range(given.repeat + 2):
        for case, on in CASES.items():
            found = timed(models[case], x, on)
            if turn >= 2:  # memory pools fill, weights are packed
                times[case].append(found)
    medians = {case: [statistics.median(t) for t in zip(*found, strict=True)] for case, found in times.items()}
    for case, (clock, processor) in medians.items():
        ratios = [medians["float"][i] / medians[case][i] for i in range(2)]
        print(
            f"{case:16} {1e3 * clock:8.1f} ms, {1e3 * processor:8.1f} ms of processor time; "
            f"{ratios[0]:.2f} and {ratios[1]:.2f} times as fast as float"
        )


if __name__ == "__main__":
    main()

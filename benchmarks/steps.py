"""Measuring training steps of a float model and of its binarized twins in one run; the scripts beside this use it.

* time: forward pass, loss, backward pass and optimizer step. The models take turns, so that whatever else the machine
  does hits all; the figures are medians, their ratio to the float model's the result, with the ratio of the fastest
  steps beside it. Processor time (of all threads) stands beside the time on the clock: it suffers less from other
  processes.
* memory kept: bytes that autograd holds between forward and backward pass. `bnnapps.profile.memory` watches every
  storage that the forward pass allocates and charges those that live on to the layer whose operator saved them (the
  input of a linear layer to that layer), or, for bits, to the layer that made them; parameters do not count. Compared
  are the layers that the method makes binary, by name, with the same layers of the float model, and then the whole.
* peak memory: how far the resident set of a process grows, during two steps, above what it is between steps (model,
  batch and the optimizer's state are there by then; gradients come and go), one process each. The C library is told
  to give freed memory back, which it else does late: the figure would be the holes in its heap. Linux only.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

import bnnapps
from bnnapps.profile.memory import kept_for_backward

PARTS = ("clock", "processor", "forward", "backward", "update")


class Step:
    """One training step of one model: `loss(model)` is its forward pass."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> None:
        self.model = model
        self._loss = loss
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def loss(self) -> Tensor:
        """The forward pass."""
        return self._loss(self.model)

    def __call__(self) -> dict[str, float]:
        """Seconds on the clock, and seconds of processor time of the step and of its parts."""
        clock, marks = time.perf_counter(), [time.process_time()]
        loss = self.loss()
        marks.append(time.process_time())
        loss.backward()
        marks.append(time.process_time())
        self.optimizer.step()
        self.optimizer.zero_grad()
        bnnapps.apply_constraints(self.model)
        marks.append(time.process_time())
        return {
            "clock": time.perf_counter() - clock,
            "processor": marks[3] - marks[0],
            "forward": marks[1] - marks[0],
            "backward": marks[2] - marks[1],
            "update": marks[3] - marks[2],
        }


def compare(steps: Mapping[str, Step], repeat: int) -> dict[str, Any]:
    """Times and bytes of every step; the one called "float" is what the others are compared with."""
    for step in (*steps.values(), *steps.values()):
        step()  # learned scales take their start from the first batch, and memory pools fill
    times: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for _ in range(repeat):
        for name, step in steps.items():
            times[name].append(step())
    binary = [name for name in steps if name != "float"]
    layers = [entry.name for entry in bnnapps.plan_of(steps[binary[0]].model).binarized]
    kept = {}
    for name, step in steps.items():
        by_layer = kept_for_backward(step.model, step.loss)
        kept[name] = {"layers": sum(by_layer.get(n, 0) for n in layers), "all": sum(by_layer.values())}
    return {
        "seconds": {n: {part: statistics.median(t[part] for t in ts) for part in PARTS} for n, ts in times.items()},
        "time": {n: {part: _ratio(times["float"], times[n], part) for part in PARTS[:2]} for n in binary},
        "kept_bytes": kept,
        "kept_ratio": {n: {key: kept[n][key] / kept["float"][key] for key in ("layers", "all")} for n in binary},
    }


def _ratio(floats: Sequence[dict[str, float]], binaries: Sequence[dict[str, float]], part: str) -> dict[str, Any]:
    pairs = sorted(b[part] / a[part] for a, b in zip(floats, binaries, strict=True))
    quarter = len(pairs) // 4
    medians = [statistics.median(step[part] for step in found) for found in (floats, binaries)]
    fastest = [min(step[part] for step in found) for found in (floats, binaries)]
    return {
        "ratio": medians[1] / medians[0],
        "fastest": fastest[1] / fastest[0],
        "quartiles": [pairs[quarter], pairs[-1 - quarter]],
    }


def growth_in_a_process(script: str, name: str, options: Mapping[str, Any]) -> int | None:
    """What `script --child name` prints: `peak_growth`, in a process of its own."""
    command = [sys.executable, script, "--child", name]
    for key, value in options.items():
        command += [f"--{key.replace('_', '-')}", str(value)]
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "131072"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    result: int | None = json.loads(output)
    return result


def peak_growth(step: Step) -> int | None:
    """How far the resident set of this process grows during two steps; `None` where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    step()  # the optimizer makes its state
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _resident(status, "VmRSS")
    for _ in range(2):
        step()
    return _resident(status, "VmHWM") - before


def _resident(status: Path, key: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def table(found: dict[str, Any], title: str) -> Table:
    """The figures, a row each, with their ratios to the float model's."""
    names = list(found["seconds"])
    rows = Table(title=title, title_justify="left", pad_edge=False)
    rows.add_column("")
    for name in names:
        rows.add_column(name, justify="right")
    for name in names[1:]:
        rows.add_column("ratio" if len(names) == 2 else f"ratio, {name}", justify="right")

    def add(label: str, values: Sequence[float], unit: float, digits: int) -> None:
        cells = [f"{value / unit:.{digits}f}" for value in values]
        rows.add_row(label, *cells, *(f"{value / values[0]:.2f}" for value in values[1:]))

    labels = {"clock": "step, ms", "processor": "step, ms of processor time"}
    for part in PARTS:
        add(labels.get(part, f"    {part}"), [found["seconds"][n][part] for n in names], 1e-3, 1)
    for key, label in (("layers", "kept for backward by these layers, MB"), ("all", "kept for backward by all, MB")):
        add(label, [found["kept_bytes"][n][key] for n in names], 1e6, 1)
    if found["peak_growth_bytes"]["float"] is not None:
        add("growth of the resident set, MB", [found["peak_growth_bytes"][n] for n in names], 1e6, 0)
    return rows


def spread(found: dict[str, Any]) -> list[str]:
    """A line for each ratio of times, with the quartiles of the pairs of steps."""
    lines = []
    for name, parts in found["time"].items():
        for part, values in parts.items():
            low, high = values["quartiles"]
            lines.append(
                f"{name}, {part} time: {values['ratio']:.2f} (fastest of each {values['fastest']:.2f}; "
                f"pairs of steps: quartiles {low:.2f}, {high:.2f})"
            )
    return lines

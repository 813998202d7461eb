"""Time and memory of a training step, binarized against float: the same BERT, the same batch, in one run.

* time: forward pass, loss, backward pass and AdamW step. Float and binarized steps take turns, so that whatever else
  the machine does hits both; the figures are medians, their ratio the result. Processor time (of all threads) stands
  beside the time on the clock: it suffers less from other processes.
* memory kept: bytes that autograd holds between forward and backward pass. `bnnapps.profile.memory` watches every
  storage that the forward pass allocates and charges those that live on to the layer whose operator saved them (the
  input of a linear layer to that layer), or, for bits, to the layer that made them; parameters do not count. Compared
  are the layers that the method makes binary, by name, with the same layers of the float model, and then the whole.
* peak memory: how far the resident set of a process grows, during three steps, above what it was before the first
  (model and batch are there by then), one process each. The C library is told to give freed memory back, which it
  else does late: the figure would be the holes in its heap. Linux only.

    python benchmarks/training_step.py --method bibert --batch 16 --length 64
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

import bnnapps
from bnnapps.profile.memory import kept_for_backward
from bnnapps.text import render

VOCABULARY = 30522


def float_model(options: argparse.Namespace) -> nn.Module:
    """A BERT classifier with random weights, in training mode."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden // options.head_size),
        intermediate_size=4 * options.hidden,
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
        max_position_embeddings=max(512, options.length),
    )
    model: nn.Module = BertForSequenceClassification(config).train()
    return model


def batch_of(options: argparse.Namespace) -> dict[str, Tensor]:
    """Random tokens, full length, with labels."""
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, options.length)
    return {
        "input_ids": torch.randint(VOCABULARY, shape, generator=generator),
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "labels": torch.randint(2, (options.batch,), generator=generator),
    }


class Step:
    """One training step of one model."""

    def __init__(self, model: nn.Module, batch: dict[str, Tensor]) -> None:
        self.model = model
        self.batch = batch
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def loss(self) -> Tensor:
        """The forward pass."""
        loss: Tensor = self.model(**self.batch).loss
        return loss

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


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one comparison."""
    plain = float_model(options)
    binary = bnnapps.binarize(copy.deepcopy(plain), options.method)
    batch = batch_of(options)
    steps = {"float": Step(plain, batch), "binary": Step(binary, batch)}
    for step in (*steps.values(), *steps.values()):
        step()  # learned scales take their start from the first batch, and memory pools fill
    times: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for _ in range(options.repeat):
        for name, step in steps.items():
            times[name].append(step())
    seconds = {n: {part: statistics.median(t[part] for t in ts) for part in ts[0]} for n, ts in times.items()}
    ratios = {}
    for part in ("clock", "processor"):
        pairs = sorted(b[part] / a[part] for a, b in zip(times["float"], times["binary"], strict=True))
        quarter = len(pairs) // 4
        ratios[part] = {
            "ratio": seconds["binary"][part] / seconds["float"][part],
            "quartiles": [pairs[quarter], pairs[-1 - quarter]],
        }
    layers = [entry.name for entry in bnnapps.plan_of(binary).binarized]
    kept = {}
    for name, step in steps.items():
        by_layer = kept_for_backward(step.model, step.loss)
        kept[name] = {"layers": sum(by_layer.get(n, 0) for n in layers), "all": sum(by_layer.values())}
    return {
        "seconds": seconds,
        "time": ratios,
        "kept_bytes": kept,
        "kept_ratio": {key: kept["binary"][key] / kept["float"][key] for key in ("layers", "all")},
        "peak_growth_bytes": {name: peak_growth_of(name, options) for name in steps},
    }


def peak_growth_of(name: str, options: argparse.Namespace) -> int | None:
    """`peak_growth` in a process of its own."""
    command = [sys.executable, __file__, "--child", name]
    for key in ("method", "layers", "hidden", "head_size", "batch", "length", "dropout", "threads"):
        command += [f"--{key.replace('_', '-')}", str(getattr(options, key))]
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "131072"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    result: int | None = json.loads(output)
    return result


def peak_growth(options: argparse.Namespace) -> int | None:
    """How far the resident set of this process grows during three steps; `None` where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    model = float_model(options)
    if options.child == "binary":
        model = bnnapps.binarize(model, options.method)
    step = Step(model, batch_of(options))
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, of imports and random weights, is forgotten
    before = _resident(status, "VmRSS")
    for _ in range(3):
        step()
    return _resident(status, "VmHWM") - before


def _resident(status: Path, key: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def table(found: dict[str, Any], options: argparse.Namespace) -> Table:
    """The figures, a row each."""
    title = (
        f"Training step of a {options.layers}-layer, {options.hidden}-wide BERT, batch {options.batch}, length "
        f"{options.length}, dropout {options.dropout}, {options.threads} threads: {options.method} against float"
    )
    rows = Table(title=title, title_justify="left", pad_edge=False)
    for column in ("", "float", "binarized", "ratio"):
        rows.add_column(column, justify="right" if column else "left")

    def add(label: str, values: dict[str, float], unit: float, digits: int) -> None:
        a, b = values["float"], values["binary"]
        rows.add_row(label, f"{a / unit:.{digits}f}", f"{b / unit:.{digits}f}", f"{b / a:.2f}")

    labels = {"clock": "step, ms", "processor": "step, ms of processor time"}
    for part in ("clock", "processor", "forward", "backward", "update"):
        add(labels.get(part, f"    {part}"), {n: s[part] for n, s in found["seconds"].items()}, 1e-3, 1)
    for key, label in (("layers", "kept for backward by these layers, MB"), ("all", "kept for backward by all, MB")):
        add(label, {n: k[key] for n, k in found["kept_bytes"].items()}, 1e6, 1)
    if found["peak_growth_bytes"]["float"] is not None:
        add("growth of the resident set, MB", found["peak_growth_bytes"], 1e6, 0)
    return rows


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--method", default="bibert")
    options.add_argument("--layers", type=int, default=6)
    options.add_argument("--hidden", type=int, default=384)
    options.add_argument("--head-size", type=int, default=32)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--length", type=int, default=64)
    options.add_argument("--dropout", type=float, default=0.1)
    options.add_argument("--repeat", type=int, default=15)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--child", choices=["float", "binary"], help=argparse.SUPPRESS)
    return options


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(peak_growth(options)))
        return
    found = measure(options)
    print(render(table(found, options)))
    for part, values in found["time"].items():
        low, high = values["quartiles"]
        print(f"{part} time: {values['ratio']:.2f} (pairs of steps: quartiles {low:.2f} and {high:.2f})")
    if options.json:
        record = {k: v for k, v in vars(options).items() if k not in ("json", "child")}
        options.json.write_text(json.dumps({"options": record, "torch": torch.__version__, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()

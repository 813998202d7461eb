"""Whole networks on the packed runtime, beside their float32 and int8 twins in ONNX Runtime, in one run.

Weights and the statistics of BatchNorm are random with a fixed seed: latency and size do not depend on them. Each file
is checked against torch when it is exported. What is exported or measured already is not done again.

    python benchmarks/runtime.py --out runs/runtime --nets bireal18 reactnet_a quicknet bibert_base
    python benchmarks/runtime.py --out runs/runtime --table
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import bnnapps
from bnnapps.export import export
from bnnapps.models import build

LENGTH = 128
"""Tokens of a sentence for BERT."""


def _image(name: str, method: str) -> tuple[nn.Module, nn.Module, Any]:
    """A network of ours, binarized, its float twin, and an image."""
    torch.manual_seed(0)
    model = build(name, 1000)
    x = torch.randn(1, 3, 224, 224)
    twin = build("resnet18", 1000) if name == "bireal18" else build(name, 1000)
    return _with_statistics(bnnapps.binarize(model, method, example_inputs=x)), twin.eval(), x


def _bert() -> tuple[nn.Module, nn.Module, Any]:
    """BERT-base as BiBERT binarizes it, its float twin, and a sentence."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(num_labels=2)
    x = {"input_ids": torch.randint(0, config.vocab_size, (1, LENGTH)), "attention_mask": torch.ones(1, LENGTH).long()}
    twin = BertForSequenceClassification(config).eval()
    return bnnapps.binarize(BertForSequenceClassification(config), "bibert").eval(), twin, x


def _with_statistics(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return model.eval()


NETS: dict[str, Callable[[], tuple[nn.Module, nn.Module, Any]]] = {
    "bireal18": lambda: _image("bireal18", "bireal"),
    "reactnet_a": lambda: _image("reactnet_a", "reactnet"),
    "quicknet": lambda: _image("quicknet", "bnn"),
    "bibert_base": _bert,
}


def files_of(name: str, out: Path) -> tuple[Path, Path]:
    """The packed file and the float twin; they are exported where they are missing."""
    packed, twin = out / name / "packed.onnx", out / name / "float.onnx"
    if not (packed.is_file() and twin.is_file()):
        packed.parent.mkdir(parents=True, exist_ok=True)
        model, real, x = NETS[name]()
        found = export(model, x, packed, dialect="packed")
        print(
            f"{name}: {found.parity.verdict}, {found.parity.sign_flips} sign flips",
            *found.notes,
            sep="\n  ",
            flush=True,
        )
        two = {k: t.repeat(2, 1) for k, t in x.items()} if isinstance(x, dict) else x.repeat(2, 1, 1, 1)
        names = list(x) if isinstance(x, dict) else ["x"]  # a batch of one would be taken for a constant
        batch = torch.export.Dim("batch")
        shapes: Any = {key: {0: batch} for key in names} if isinstance(x, dict) else ({0: batch},)
        arguments: dict[str, Any] = {"kwargs": two, "args": ()} if isinstance(x, dict) else {"args": (two,)}
        with torch.no_grad():
            program = torch.onnx.export(
                real,
                **arguments,
                input_names=names,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
                external_data=False,
            )
        assert program is not None
        program.save(twin)
    return packed, twin


def measure(name: str, options: argparse.Namespace) -> None:
    """Measure one network, unless its figures are there."""
    from bnnapps.export.bench.run import bench

    record = options.out / name / "bench.json"
    packed, twin = files_of(name, options.out)
    if record.is_file() or options.export_only:
        return
    sizes = {"sequence": LENGTH} if name.startswith("bibert") else {}
    found = bench(packed, options.threads, options.batches, sizes, options.runs, {"float": twin})
    record.write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")


def table(options: argparse.Namespace) -> str:
    """Markdown: a row for each network, number of threads and batch size."""
    lines = [
        "| network | threads | batch | packed ms (p10-p90) | float32 ms | int8 ms | float32 / packed | int8 / packed |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in options.nets:
        record = options.out / name / "bench.json"
        if not record.is_file():
            lines.append(f"| {name} | | | *open* | | | | |")
            continue
        found = json.loads(record.read_text(encoding="utf-8"))
        cells: dict[tuple[int, int], dict[str, Any]] = {}
        for one in found["latencies"]:
            cells.setdefault((one["threads"], one["batch"]), {})[one["name"]] = one
        for (threads, batch), by in sorted(cells.items()):
            lines.append(_line(name, threads, batch, by))
    return "\n".join(lines)


def _line(name: str, threads: int, batch: int, by: dict[str, Any]) -> str:
    packed = by["packed"]
    texts = [f"{packed['median']:.2f} ({packed['p10']:.2f}-{packed['p90']:.2f})"]
    texts += [f"{by[twin]['median']:.2f}" if twin in by else "" for twin in ("float", "int8")]
    texts += [f"{by[twin]['median'] / packed['median']:.1f}x" if twin in by else "" for twin in ("float", "int8")]
    return f"| {name} | {threads} | {batch} | {' | '.join(texts)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where files and figures go")
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--export-only", action="store_true", help="measure nothing yet")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    options = parser.parse_args(arguments)
    if not options.table:
        for name in options.nets:
            measure(name, options)
    print(table(options))


if __name__ == "__main__":
    main()

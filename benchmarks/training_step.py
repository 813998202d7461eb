"""Time and memory of a training step, binarized against float: the same BERT, the same batch, in one run.

What is measured, and how: see `steps.py`.

    python benchmarks/training_step.py --method bibert --batch 16 --length 64
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch
from steps import Step, compare, growth_in_a_process, peak_growth, spread, table
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

import bnnapps
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


def step_of(model: nn.Module, options: argparse.Namespace) -> Step:
    """A step on random tokens, full length, with labels."""
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, options.length)
    batch = {
        "input_ids": torch.randint(VOCABULARY, shape, generator=generator),
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "labels": torch.randint(2, (options.batch,), generator=generator),
    }

    def loss(model: nn.Module) -> Tensor:
        result: Tensor = model(**batch).loss
        return result

    return Step(model, loss)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one comparison."""
    plain = float_model(options)
    binary = bnnapps.binarize(copy.deepcopy(plain), options.method)
    found = compare({"float": step_of(plain, options), "binarized": step_of(binary, options)}, options.repeat)
    keys = ("method", "layers", "hidden", "head_size", "batch", "length", "dropout", "threads")
    passed = {key: getattr(options, key) for key in keys}
    growth = {name: growth_in_a_process(__file__, name, passed) for name in ("float", "binarized")}
    return {**found, "peak_growth_bytes": growth}


def child(options: argparse.Namespace) -> int | None:
    """The growth of this process."""
    model = float_model(options)
    if options.child == "binarized":
        model = bnnapps.binarize(model, options.method)
    return peak_growth(step_of(model, options))


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
    options.add_argument("--child", choices=["float", "binarized"], help=argparse.SUPPRESS)
    return options


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(child(options)))
        return
    found = measure(options)
    title = (
        f"Training step of a {options.layers}-layer, {options.hidden}-wide BERT, batch {options.batch}, length "
        f"{options.length}, dropout {options.dropout}, {options.threads} threads: {options.method} against float"
    )
    print(render(table(found, title)), *spread(found), sep="\n")
    if options.json:
        record = {k: v for k, v in vars(options).items() if k not in ("json", "child")}
        options.json.write_text(json.dumps({"options": record, "torch": torch.__version__, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()

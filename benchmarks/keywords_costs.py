"""What a D-FSMN costs at each depth: parameters, operations, file sizes, and latency for one second of sound.

Networks of the published size (128 features a frame, 256 inside a memory layer) with random weights: none of the
figures depends on what is learned. The float network is measured as the portable file that ONNX Runtime computes, the
binary ones as packed files on the project's kernels; all files take turns. Features come in: the time that log-mel
takes is a line of its own. A file that is there is not exported again.

    python benchmarks/keywords_costs.py --out runs/keywords-costs
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

import bnnapps
import bnnapps.export
from bnnapps.export.bench.latency import Latency, measure, options_for
from bnnapps.plugins.keywords.dfsmn import DFSMN
from bnnapps.plugins.keywords.features import Features, FeatureSettings
from bnnapps.plugins.keywords.model import depths_of

METHODS = {"float": None, "BiFSMN": "bifsmn", "BiFSMNv2": "bifsmnv2"}
COLUMNS = (
    "| network | layers | parameters | of 1 bit | OPs | file | milliseconds |\n|---|---:|---:|---:|---:|---:|---:|"
)


def network_of(method: str | None, options: argparse.Namespace) -> nn.Module:
    """A network with statistics as a training leaves them."""
    torch.manual_seed(0)
    network = DFSMN(options.words, channels=options.channels, hidden=2 * options.channels, options=3)
    if method is not None:
        bnnapps.binarize(network, method)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return network.eval()


def costs(options: argparse.Namespace) -> list[str]:
    """A line of Markdown for each network and depth."""
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    picture = torch.randn(1, 1, 32, 32)
    rows: list[tuple[str, str, list[str]]] = []
    calls: dict[str, Callable[[], object]] = {}
    for title, method in METHODS.items():
        for suffix, about, thin in depths_of(network_of(method, options)):
            key = f"{title}{suffix}"
            path = folder / f"{key}.onnx"
            dialect = "portable" if method is None else "packed"
            if not path.exists():
                bnnapps.export.export(thin, picture, path, dialect=dialect, dynamic_batch=False)
            session = bnnapps.export.load(path, sess_options=options_for(1))
            feeds = {session.get_inputs()[0].name: picture.numpy()}
            calls[key] = lambda session=session, feeds=feeds: session.run(None, feeds)
            layers = about.split()[0]
            rows.append((key, title, [layers, *_sizes(thin, picture), f"{path.stat().st_size / 1024:.0f} KiB"]))
    sound = torch.randn(1, 16_000)
    features = Features(FeatureSettings())
    calls["features"] = lambda: features(sound)
    found: dict[str, Latency] = {one.name: one for one in measure(calls, 1, 1, options.runs)}
    lines = [f"| {title} | {' | '.join(cells)} | {found[key].median:.2f} |" for key, title, cells in rows]
    return [*lines, f"| log-mel features (torchaudio) | | | | | | {found['features'].median:.2f} |"]


def _sizes(network: nn.Module, picture: torch.Tensor) -> list[str]:
    """Parameters in thousands, the share of those of one bit, and operations in millions, of the layers that run."""
    found = bnnapps.summarize(network, picture)
    ran = [row for row in found.layers if row.shape is not None]
    one_bit, real = sum(row.params_1bit for row in ran), sum(row.params_float for row in ran)
    share = 100 * one_bit / (one_bit + real)
    return [f"{(one_bit + real) / 1e3:.1f} k", f"{share:.1f} %", f"{found.ops_paper / 1e6:.3f} M"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="where the files go")
    options.add_argument("--channels", type=int, default=128, help="of a frame; twice as many inside a memory layer")
    options.add_argument("--words", type=int, default=10)
    options.add_argument("--runs", type=int, default=200, help="of each file")
    found = options.parse_args(arguments)
    torch.set_num_threads(1)
    print(COLUMNS)
    print("\n".join(costs(found)))


if __name__ == "__main__":
    main()

"""Graphs: float and binary networks on Cora, on the TU sets, and the cascade of binary DGCNN on clouds.

Every row is a shipped recipe with the changes that stand in `ROWS`; seeds (for the TU sets: folds) of a row run one
after another in a process of their own, whose largest memory is taken. A seed that is done is not run again, so the
command can be stopped and started.

    python benchmarks/graphs_table.py --data FOLDER --out runs/graphs --group cora --seeds 20
    python benchmarks/graphs_table.py --data FOLDER --out runs/graphs --group tu
    python benchmarks/graphs_table.py --data FOLDER --out runs/graphs --group clouds --seeds 1
    python benchmarks/graphs_table.py --out runs/graphs --table        # only print what is there

`FOLDER` holds `planetoid`, `tu_graphs` and `modelnet10`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CORA = {"data.root": "{data}/planetoid", "data.repeats": 10, "train.epochs": 100}
FLOAT = {"data.root": "{data}/planetoid", "data.repeats": 10, "profile": "float", "train.epochs": 20}
SIGNS = {"binarize": {"method": "bnn", "keep_first": 0, "keep_last": 0}}

GIN = {"model.name": "gin", "model.layers": 4, "model.hidden": 32, "model.dropout": 0.2}
GCN = {"model.name": "gcn", "model.layers": 4, "model.hidden": 32, "model.dropout": 0.2}
BINARY = {
    "model.activation": "prelu",
    "model.norm": "before",
    "binarize": {"method": "binarygnn", "keep_first": 0, "keep_last": 1},
}
REAL = {"model.activation": "relu", "model.norm": "after", "binarize": None}
TU = {
    "data.source": "tu",
    "data.root": "{data}/tu_graphs",
    "data.unit_rows": False,
    "data.batch_size": 32,
    "data.eval_batch_size": 256,
    "data.neighbors": None,
    "data.eval_neighbors": None,
    "train.stages": [],
    "model.heads": 1,
    "train.lr": 0.005,
    "train.optimizer.weight_decay": 0.0,
    "train.schedule": {"name": "cosine", "warmup": 0.0},
}

ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cora-float": ("bigcn_cora", "GCN, float", FLOAT),
    "cora-bigcn": ("bigcn_cora", "Bi-GCN", CORA),
    "cora-scaled": (
        "bigcn_cora",
        "Bi-GCN, gradient with the scales",
        CORA | {"binarize.overrides": {"activation.dropout": 0.4, "input_gradient": "scaled"}},
    ),
    "cora-bgn": (
        "bigcn_cora",
        "BGN",
        CORA
        | {
            "binarize": {"method": "bgn", "overrides": None},  # the recipe's dropout of codes is not BGN's
            "model": {"head": True, "norm": "after", "dropout": 0.4},
            "train.epochs": 20,
            "train.lr": 0.01,
        },
    ),
    "cora-naive": ("bigcn_cora", "signs alone (BNN)", CORA | SIGNS),
}
for _set, _epochs in (("MUTAG", 100), ("PROTEINS", 40)):
    for _name, _network in (("gin", GIN), ("gcn", GCN)):
        for _kind, _changes in (("float", REAL), ("binary", BINARY)):
            ROWS[f"{_set.lower()}-{_name}-{_kind}"] = (
                "binary_sage",
                f"{_set}, {_name.upper()} {_kind}",
                TU | _network | _changes | {"data.name": _set, "train.epochs": _epochs},
            )
CLOUDS = {"profile": "modelnet10", "data.clouds.root": "{data}/modelnet10/modelnet10_voxels.npz"}
for _key, _title, _options in (
    ("xor", "DGCNN, XOR edges, Hamming neighbours", {"edges": "xor", "neighbors": "hamming"}),
    ("real", "DGCNN, real edges, Euclidean neighbours", {"edges": "real", "neighbors": "l2"}),
):
    ROWS[f"clouds-{_key}"] = (
        "binary_dgcnn_modelnet",
        _title,
        CLOUDS | {f"model.options.{name}": value for name, value in _options.items()},
    )


def settings_of(row: str, seed: int, data: Path) -> list[str]:
    """The `--set` arguments of a row's run."""
    changes = dict(ROWS[row][2])
    if "data.source" in changes:  # the number is the fold that is tested
        changes |= {"data.split": seed % 10, "seed": 42}
    else:
        changes["seed"] = seed
    found = []
    for key, value in changes.items():
        text = value if isinstance(value, str) else json.dumps(value)
        found.append(f"{key}={text.replace('{data}', str(data))}")
    return found


def run_row(row: str, seeds: Sequence[int], data: Path, out: Path) -> None:
    """Run the missing seeds of a row in this process."""
    import io
    import time

    from rich.console import Console

    from bnnapps.recipe.load import load_recipe
    from bnnapps.training.runner import run_recipe

    for seed in seeds:
        file = out / f"{row}-{seed}.json"
        if file.exists():
            continue
        folder = out / f"{row}-{seed}"
        recipe = load_recipe(ROWS[row][0], settings_of(row, seed, data))
        began = time.monotonic()
        used = time.process_time()
        result = run_recipe(recipe, folder, Console(file=io.StringIO()), resume=folder.exists())
        result["cpu_seconds"] = time.process_time() - used
        result["wall_seconds"] = time.monotonic() - began
        result["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        file.write_text(json.dumps(result))
        shutil.rmtree(folder)
        print(row, seed, result["stages"][-1]["best"], f"{result['wall_seconds']:.0f} s", flush=True)


def run(options: argparse.Namespace) -> None:
    """Run what is missing, each row in a process of its own."""
    options.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    for row in chosen(options):
        seeds = range(10) if "data.source" in ROWS[row][2] else range(options.seeds)
        if all((options.out / f"{row}-{seed}.json").exists() for seed in seeds):
            continue
        process = context.Process(target=run_row, args=(row, seeds, options.data, options.out))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{row}: the process ended with {process.exitcode}")


def chosen(options: argparse.Namespace) -> list[str]:
    """The rows that were asked for."""
    groups = {"cora": ("cora-",), "tu": ("mutag-", "proteins-"), "clouds": ("clouds-",), "all": ("",)}
    rows = [row for row in ROWS if row.startswith(groups[options.group])]
    return [row for row in rows if options.rows is None or row in options.rows]


def spread(values: Sequence[float]) -> str:
    """Mean and deviation in percent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.fmean(values):.1f} ± {100 * deviation:.1f}"


def table(options: argparse.Namespace) -> str:
    """Markdown: a row for each stage of each row that has results."""
    lines = ["| network | test accuracy, best dev epoch | last epoch | runs | seconds an epoch | memory |"]
    lines.append("|---|---|---|---|---|---|")
    for row in chosen(options):
        files = sorted(options.out.glob(f"{row}-*.json"))
        results = [json.loads(file.read_text()) for file in files]
        if not results:
            continue
        stages = len(results[0]["stages"])
        for number in range(stages):
            own = [result["stages"][number] for result in results]
            name = "test_accuracy" if "test_accuracy" in own[0]["best"] else "accuracy"
            best, last = ([stage[kind][name] for stage in own] for kind in ("best", "last"))
            passes = [stage["steps" if row.startswith("cora-") else "epochs"] for stage in own]
            share = [stage["seconds"] / max(1, count) for stage, count in zip(own, passes, strict=True)]
            title = ROWS[row][1] + (f": {own[0]['stage']}" if stages > 1 else "")
            memory = max(result["memory"] for result in results) / 2**20
            cells = [title, spread(best), spread(last), str(len(own)), f"{statistics.median(share):.3f}"]
            lines.append(f"| {' | '.join([*cells, f'{memory:.0f} MiB'])} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="where the results go")
    options.add_argument("--data", type=Path, help="the folder of planetoid, tu_graphs and modelnet10")
    options.add_argument("--group", choices=["cora", "tu", "clouds", "all"], default="all")
    options.add_argument("--rows", nargs="+", choices=list(ROWS), help="only these")
    options.add_argument("--seeds", type=int, default=20, help="of Cora and of clouds; the TU sets have ten folds")
    options.add_argument("--table", action="store_true", help="only print the table of what is there")
    found = options.parse_args(arguments)
    if not found.table:
        found.data = found.data.resolve()
        run(found)
    print(table(found))


if __name__ == "__main__":
    main()

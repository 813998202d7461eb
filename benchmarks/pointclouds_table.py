"""ModelNet10 with one small budget for every row: float PointNet, and binary ones with each aggregation.

Every row is the recipe `bipointnet_modelnet` with the same clouds, network, optimizer, schedule and number of epochs;
its profiles say what differs. Each takes the last epoch, and the best is named beside it. CPU time and peak memory are
those of the whole command, as the operating system counts them. A row that is done is not run again, so the command
can be stopped and started.

    python benchmarks/pointclouds_table.py --data modelnet10_voxels.npz --out runs/pointclouds --epochs 12 --points 64
    python benchmarks/pointclouds_table.py --out runs/pointclouds --table               # only print what is there
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METHODS = {
    "bnn": "BNN",
    "xnor": "XNOR-Net",
    "bireal": "Bi-Real Net",
    "irnet": "IR-Net",
    "xnorpp": "XNOR-Net++",
    "bipointnet": "BiPointNet",
}
POOLS = {"max": "max", "ema_avg": "EMA-avg", "ema_max": "EMA-max"}
FLOAT = {"float-max": "max", "float-mean": "mean"}
UNITS = {"poem-max": "double_norm"}
ROWS = {
    **{name: f"float, {pool}" for name, pool in FLOAT.items()},
    **{f"{m}-{p}": f"{METHODS[m]}, {POOLS[p]}" for p in ("ema_max", "max", "ema_avg") for m in METHODS},
    "poem-max": "POEM, max, norms on both sides",
}
DEFAULT = [row for row in ROWS if not row.startswith("xnorpp")]
PROGRAM = str(Path(sys.executable).parent / "bnnapps")


def profiles_of(row: str) -> list[str]:
    """The profiles of the recipe that make a row."""
    method, _, pool = row.partition("-")
    if method in ("float", "poem"):
        return [method]
    named = [] if method == "bipointnet" else [method]
    return named if pool == "ema_max" else [*named, pool]


def command_of(row: str, seed: int, options: argparse.Namespace) -> list[str]:
    """The `bnnapps run` of a row."""
    folder = folder_of(row, seed, options)
    if (folder / "recipe.yaml").exists():
        return [PROGRAM, "run", "--resume", str(folder)]
    settings: dict[str, Any] = {
        "profile": "+".join(["modelnet10_voxels", *profiles_of(row)]),
        "seed": seed,
        "data.root": options.data,
        "data.points": options.points,
        "data.stored": options.stored,
        "data.batch_size": options.batch_size,
        "model.options": json.dumps(
            {"width": options.width, "dropout": 0.0, "pool": FLOAT.get(row, "max")}
            | ({"unit": UNITS[row]} if row in UNITS else {})
        ),
        "train.epochs": options.epochs,
        "train.lr": options.lr,
        "train.select": "last",
        "train.log_layers": "false",
        "export.dialects": "[]",
    }
    command = [PROGRAM, "run", "bipointnet_modelnet", "--out", str(folder)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return command


def folder_of(row: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a row's run lies."""
    out: Path = options.out
    return out / f"{row}-{seed}"


def measured(command: Sequence[str]) -> dict[str, float]:
    """Run a command; its CPU seconds and its peak memory in bytes.

    Raises:
        CalledProcessError: it failed.
    """
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise subprocess.CalledProcessError(code, list(command))
    return {"cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024.0}


def run(options: argparse.Namespace) -> None:
    """Run what is missing, the first seed of all rows first."""
    for seed in options.seeds:
        for row in options.rows:
            folder = folder_of(row, seed, options)
            if (folder / "result.json").exists():
                continue
            command = command_of(row, seed, options)
            print(shlex.join(command), flush=True)
            cost = measured(command)
            whole = command[2] != "--resume"
            (folder / "cost.json").write_text(json.dumps({**cost, "whole": whole, "epochs": options.epochs}))


def result(folder: Path) -> dict[str, float] | None:
    """Accuracy after the last epoch and at the best one, in percent; CPU seconds an epoch and peak MiB, if known."""
    file = folder / "result.json"
    if not file.exists():
        return None
    last = json.loads(file.read_text())["stages"][-1]["last"]
    best = max(
        float(record["dev/accuracy"])
        for line in (folder / "metrics.jsonl").read_text().splitlines()
        if "dev/accuracy" in (record := json.loads(line))
    )
    found = {"last": 100 * float(last["accuracy"]), "best": 100 * best}
    if (folder / "cost.json").exists():
        cost = json.loads((folder / "cost.json").read_text())
        found["memory"] = cost["peak_bytes"] / 2**20
        if cost["whole"]:
            found["seconds"] = cost["cpu_seconds"] / cost["epochs"]
    return found


def table(options: argparse.Namespace) -> str:
    """Markdown: a row each, means over the seeds, and each seed's figure."""
    lines = [
        "| network | accuracy, last epoch | best epoch | each seed | CPU seconds an epoch | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for row in options.rows:
        found = [r for seed in options.seeds if (r := result(folder_of(row, seed, options))) is not None]
        if not found:
            lines.append(f"| {ROWS[row]} | open | | | | |")
            continue
        mean = {key: _mean(found, key) for key in ("last", "best", "seconds", "memory")}
        cells = [ROWS[row], f"{mean['last']:.1f}", f"{mean['best']:.1f}", ", ".join(f"{r['last']:.1f}" for r in found)]
        cells += ["–" if mean["seconds"] is None else f"{mean['seconds']:.1f}"]
        cells += ["–" if mean["memory"] is None else f"{mean['memory']:.0f} MiB"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(found: Sequence[dict[str, float]], key: str) -> float | None:
    values = [r[key] for r in found if key in r]
    return statistics.fmean(values) if values else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="where the run folders go")
    options.add_argument("--data", type=Path, help="the archive of ModelNet10's voxel grids")
    options.add_argument("--rows", nargs="+", choices=list(ROWS), default=DEFAULT)
    options.add_argument("--seeds", nargs="+", type=int, default=[42])
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--points", type=int, default=64, help="of a cloud that the network sees")
    options.add_argument("--stored", type=int, default=512, help="points drawn once in each voxel grid")
    options.add_argument("--batch-size", type=int, default=32)
    options.add_argument("--width", type=float, default=0.25, help="factor on the channels of PointNet")
    options.add_argument("--lr", type=float, default=2e-3, help="at the top of the schedule")
    options.add_argument("--table", action="store_true", help="only print the table of what is there")
    found = options.parse_args(arguments)
    if not found.table:
        run(found)
    print(table(found))


if __name__ == "__main__":
    main()

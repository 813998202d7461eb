"""Free Spoken Digits with one small budget for every row: a float D-FSMN, and binary ones at each depth.

Every row is the recipe `bifsmn_speech_commands` or `bifsmnv2_speech_commands` with the same clips, features, optimizer
and schedule. The float row of eight layers comes first, with ReLU and dropout as the published teacher. Each binary row
starts from it and has the same number of epochs; BiFSMN and BiFSMNv2 have it as their teacher too. Binary rows train
eight, four and two layers together, with the weights 1, 0.5 and 0.25, and with all norms of a layer for each depth
(`own_norms`); the row `bifsmnv2-shared` has shared ones inside the layers, as published. A float network has one depth:
four and two layers are rows of their own. Each row takes the last epoch. A row that
is done is not run again, so the command can be stopped and started.

    python benchmarks/keywords_table.py --data free-spoken-digit-dataset --out runs/keywords
    python benchmarks/keywords_table.py --data ... --out runs/keywords-speakers --speakers-out lucas yweweler
    python benchmarks/keywords_table.py --out runs/keywords --table         # only print what is there
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

import yaml

METHODS = {
    "bnn": "BNN",
    "dorefa": "DoReFa-Net",
    "xnor": "XNOR-Net",
    "bireal": "Bi-Real Net",
    "irnet": "IR-Net",
    "bifsmn": "BiFSMN",
    "bifsmnv2": "BiFSMNv2",
}
FLOAT = {"float": 8, "float-4": 4, "float-2": 2}
SHARED = "bifsmnv2-shared"
ROWS = {
    **{row: f"float, {layers} layers" for row, layers in FLOAT.items()},
    **METHODS,
    SHARED: "BiFSMNv2, norms shared by the depths",
}
DISTILLED = ("bifsmn", "bifsmnv2", "bifsmnv2-shared")
DEPTHS = {"": 8, "_option1": 4, "_option2": 2}
"""What the metrics of each depth end in, and its layers."""
PROGRAM = str(Path(sys.executable).parent / "bnnapps")


def command_of(row: str, seed: int, options: argparse.Namespace) -> list[str]:
    """The `bnnapps run` of a row."""
    folder = folder_of(row, seed, options)
    if (folder / "recipe.yaml").exists():
        return [PROGRAM, "run", "--resume", str(folder)]
    settings: dict[str, Any] = {
        "profile": "fsdd",
        "seed": seed,
        "data.root": options.data,
        "data.speakers_out": json.dumps(options.speakers_out),
        "data.batch_size": options.batch_size,
        "data.augment.none": "true",
        "model.options": json.dumps(_network(row, options)),
        "train.epochs": options.float_epochs if row in FLOAT else options.epochs,
        "train.lr": options.lr,
        "train.optimizer.name": "adam",
        "train.optimizer.weight_decay": 0.0,
        "train.select": "last",
        "train.log_layers": "false",
        "train.stages": json.dumps([_stage(row, seed, options)]),
        "export.dialects": "[]",
    }
    if row in FLOAT:
        settings["model.thinnable"] = "null"
    elif row not in DISTILLED:
        settings["binarize.method"] = row
        settings["train.losses"] = json.dumps([{"name": "task"}])
    recipe = "bifsmnv2_speech_commands" if row.startswith("bifsmnv2") else "bifsmn_speech_commands"
    command = [PROGRAM, "run", recipe, "--out", str(folder)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return command


def _network(row: str, options: argparse.Namespace) -> dict[str, Any]:
    found = {"channels": options.channels, "hidden": 2 * options.channels, "depth": FLOAT.get(row, 8)}
    return found if row in FLOAT or row == SHARED else found | {"own_norms": True}


def _stage(row: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    if row in FLOAT:
        return {"name": "float", "binarize": False, "losses": [{"name": "task"}]}
    start = str(folder_of("float", seed, options) / "model.ckpt")
    teacher = {"teacher": start} if row in DISTILLED else {}
    return {"name": "binary", "init": start, **teacher}


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
    """Run what is missing, the first seed of all rows first; the float row of a seed before its binary ones."""
    for seed in options.seeds:
        for row in dict.fromkeys(["float", *options.rows]):
            folder = folder_of(row, seed, options)
            if (folder / "result.json").exists():
                continue
            command = command_of(row, seed, options)
            print(shlex.join(command), flush=True)
            cost = measured(command)
            whole = command[2] != "--resume"
            (folder / "cost.json").write_text(json.dumps({**cost, "whole": whole}))


def result(folder: Path) -> dict[str, float] | None:
    """Accuracy in percent after the last epoch, by layers; CPU seconds an epoch, if known."""
    file = folder / "result.json"
    if not file.exists():
        return None
    last = json.loads(file.read_text())["stages"][-1]["last"]
    row = folder.name.rpartition("-")[0]
    if row in FLOAT:
        found = {str(FLOAT[row]): 100 * float(last["accuracy"])}
    else:
        found = {str(layers): 100 * float(last[f"accuracy{suffix}"]) for suffix, layers in DEPTHS.items()}
    if (folder / "cost.json").exists():
        cost = json.loads((folder / "cost.json").read_text())
        if cost["whole"]:
            epochs = yaml.safe_load((folder / "recipe.yaml").read_text())["train"]["epochs"]
            found["seconds"] = cost["cpu_seconds"] / epochs
    return found


def table(options: argparse.Namespace) -> str:
    """Markdown: a row each, means over the seeds, and each seed's figure of the deepest network."""
    lines = [
        "| network | 8 layers | 4 layers | 2 layers | deepest, each seed | CPU seconds an epoch |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for row in options.rows:
        found = [r for seed in options.seeds if (r := result(folder_of(row, seed, options))) is not None]
        if not found:
            lines.append(f"| {ROWS[row]} | *open* | | | | |")
            continue
        means = [_mean(found, str(layers)) for layers in DEPTHS.values()]
        seconds = [r["seconds"] for r in found if "seconds" in r]
        deepest = next(str(layers) for layers in DEPTHS.values() if str(layers) in found[0])
        cells = [ROWS[row], *means, ", ".join(f"{r[deepest]:.1f}" for r in found)]
        cells += [f"{statistics.fmean(seconds):.1f}" if seconds else "–"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(found: Sequence[dict[str, float]], key: str) -> str:
    values = [r[key] for r in found if key in r]
    return f"{statistics.fmean(values):.1f}" if values else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="where the run folders go")
    options.add_argument("--data", type=Path, help="the folder of the Free Spoken Digit Dataset")
    options.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    options.add_argument("--seeds", nargs="+", type=int, default=[42])
    options.add_argument("--epochs", type=int, default=6, help="of each binary row")
    options.add_argument("--float-epochs", type=int, default=8)
    options.add_argument("--batch-size", type=int, default=60)
    options.add_argument("--channels", type=int, default=64, help="of a frame; twice as many inside a memory layer")
    options.add_argument("--lr", type=float, default=4e-3, help="of Adam, at the top of the cosine")
    options.add_argument("--speakers-out", nargs="+", default=[], help="speakers of the dev set alone")
    options.add_argument("--table", action="store_true", help="only print the table of what is there")
    found = options.parse_args(arguments)
    if not found.table:
        run(found)
    print(table(found))


if __name__ == "__main__":
    main()

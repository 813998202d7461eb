"""CIFAR-10 with one budget for every row: float and each of the first twelve methods.

Every row has the same images, augmentation, batches and number of epochs, the same optimizer and schedule, and takes
the last epoch. Where a method trains several students in a row (ReActNet, Real-to-Binary) they share the epochs; their
teacher is the float row of that seed. A row that is done is not run again, so the command can be stopped and started.

    python benchmarks/cifar10_table.py --data FOLDER --out runs/cifar10 --epochs 6 --seeds 42
    python benchmarks/cifar10_table.py --out runs/cifar10 --table                 # only print what is there
    python benchmarks/cifar10_table.py --out runs/cifar10 --plot docs/results/cifar10.svg
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnnapps.recipe.load import load_recipe

ROWS = {
    "float": "float",
    "bnn": "BNN",
    "xnor": "XNOR-Net",
    "dorefa": "DoReFa-Net",
    "bireal": "Bi-Real Net",
    "xnorpp": "XNOR-Net++",
    "irnet": "IR-Net",
    "reactnet": "ReActNet",
    "recu": "ReCU",
    "fda": "FDA-BNN",
    "adabin": "AdaBin",
    "real2binary": "Real-to-Binary",
    "bop": "Bop",
}
PROGRAM = str(Path(sys.executable).parent / "bnnapps")
CROSS_ENTROPY = [{"name": "task"}]


def stages_of(row: str, options: argparse.Namespace, teacher: Path) -> list[dict[str, Any]]:
    """The students of a row's recipe, with the float row as their teacher and their share of the epochs."""
    recipe = load_recipe(f"{row}_cifar10", ["data.root=unused"])
    stages = [stage.model_dump(mode="json", exclude_unset=True) for stage in recipe.train.stages]
    students = [stage for stage in stages if stage.get("binarize") is not False]
    first, rest = options.epochs - (options.epochs // max(1, len(students))) * (len(students) - 1), len(students) - 1
    for stage, epochs in zip(students, [*[options.epochs // max(1, len(students))] * rest, first], strict=False):
        for key in ("teacher", "init"):
            if stage.get(key) == "teacher":
                stage[key] = str(teacher)
        for key in ("optimizer", "schedule", "lr"):
            stage.pop(key, None)
        stage["epochs"] = epochs
    return students


def command_of(row: str, seed: int, options: argparse.Namespace) -> list[str]:
    """The `bnnapps run` of a row."""
    folder = folder_of(row, seed, options)
    if (folder / "recipe.yaml").exists():
        return [PROGRAM, "run", "--resume", str(folder)]
    settings: dict[str, Any] = {
        "seed": seed,
        "data.root": options.data,
        "data.batch_size": options.batch_size,
        "data.augment": "flip_crop",
        "data.mean": "null",
        "data.std": "null",
        "model.channels_last": "true",
        "train.epochs": options.epochs,
        "train.lr": options.lr,
        "train.optimizer.name": "adam",
        "train.optimizer.weight_decay": 0.0,
        "train.optimizer.groups": json.dumps(_groups(row)),
        "train.schedule": json.dumps({"name": "cosine", "warmup": 0.05, "end": 0.0}),
        "train.select": "last",
        "export.dialects": "[]",
    }
    if options.profile is not None:
        settings["profile"] = options.profile
    stages = stages_of(row, options, folder_of("float", seed, options) / "model.ckpt")
    settings["train.stages"] = json.dumps(stages)
    if not stages:
        settings["train.losses"] = json.dumps(CROSS_ENTROPY)
    command = [PROGRAM, "run", f"{row}_cifar10", "--out", str(folder)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return command


def _groups(row: str) -> list[dict[str, Any]]:
    """Bop's own group; for a short training the averages of its sensitivity study, which forget sooner."""
    if row != "bop":
        return []
    schedule = {"name": "cosine", "warmup": 0.0}
    return [{"of": "latent", "optimizer": "bop", "gamma": 1e-3, "threshold": 1e-6, "schedule": schedule}]


def folder_of(row: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a row's run lies."""
    out: Path = options.out
    return out / f"{row}-{seed}"


def run(options: argparse.Namespace) -> None:
    """Run what is missing, the first seed of all rows first."""
    for seed in options.seeds:
        for row in options.rows if "float" in options.rows else ["float", *options.rows]:
            if not (folder_of(row, seed, options) / "result.json").exists():
                command = command_of(row, seed, options)
                print(shlex.join(command), flush=True)
                subprocess.run(command, check=True)


def score(folder: Path) -> float | None:
    """The dev accuracy of a finished run after its last epoch, in percent."""
    file = folder / "result.json"
    return 100 * float(json.loads(file.read_text())["stages"][-1]["last"]["accuracy"]) if file.exists() else None


def table(options: argparse.Namespace) -> str:
    """Markdown: a row each, the mean over the seeds (and each seed's figure)."""
    lines = ["| method | accuracy | seeds |", "|---|---|---|"]
    for row in options.rows:
        found = [s for seed in options.seeds if (s := score(folder_of(row, seed, options))) is not None]
        cells = f"{statistics.fmean(found):.1f} | {', '.join(f'{s:.1f}' for s in found)}" if found else "open | "
        lines.append(f"| {ROWS[row]} | {cells} |")
    return "\n".join(lines)


def curve(folder: Path) -> list[tuple[float, float]]:
    """Epochs done (of all students together) and dev accuracy in percent; what a stage hands on is no epoch more."""
    points: list[tuple[float, float]] = []
    stage, step = "", 0
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "dev/accuracy" not in record:
            continue
        if record["stage"] != stage or record["step"] > step + 1:
            points.append((len(points) + 1.0, 100 * float(record["dev/accuracy"])))
        stage, step = record["stage"], record["step"]
    return points


def plot(options: argparse.Namespace) -> None:
    """Curves of the first seed, and the last epochs as bars beside them."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    seed = options.seeds[0]
    found = {row: curve(folder_of(row, seed, options)) for row in options.rows if score(folder_of(row, seed, options))}
    order = sorted(found, key=lambda row: found[row][-1][1])
    colours = plt.get_cmap("turbo")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for i, row in enumerate(order):
        colour = colours((i + 0.5) / len(order))
        left.plot(*zip(*found[row], strict=True), color=colour, label=ROWS[row], linewidth=1.6)
        right.barh(i, found[row][-1][1], color=colour)
        right.text(found[row][-1][1] + 0.5, i, f"{found[row][-1][1]:.1f}", va="center", fontsize=8)
    right.set_yticks(range(len(order)), [ROWS[row] for row in order], fontsize=8)
    left.set(xlabel="epochs", ylabel="accuracy on the test set, %", title="while training")
    right.set(xlabel="accuracy on the test set, %", title="after the last epoch", xlim=(0, 100))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.plot, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="where the run folders go")
    options.add_argument("--data", type=Path, help="the folder of the official batches, or the one above it")
    options.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    options.add_argument("--seeds", nargs="+", type=int, default=[42])
    options.add_argument("--epochs", type=int, default=6, help="of all students of a row together")
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--lr", type=float, default=3e-3, help="at the top of the schedule")
    options.add_argument("--profile", help="of the recipes: resnet18 or vgg_small in place of ResNet-20")
    options.add_argument("--table", action="store_true", help="only print the table of what is there")
    options.add_argument("--plot", type=Path, help="draw the curves of what is there into this file")
    found = options.parse_args(arguments)
    if found.plot is not None:
        plot(found)
    elif not found.table:
        run(found)
    print(table(found))


if __name__ == "__main__":
    main()

"""Detection on small real sets with one budget for every row: float, the baselines, and BiDet.

Every row has the same images, augmentation, batches, epochs, optimizer and schedule, and takes the last epoch. All
rows of a seed, the float one among them, start from one float network that was trained before (`--pretrain` epochs,
by the same schedule; 0: every row starts from random weights). The detector is a small SSD that fits a processor
(`ssd_small`, by default 160 pixels), with real heads. BiDet's losses count from the first drop of the learning rate
on, as published. A row that is done is not run again, so the command can be stopped and started.

    python benchmarks/detection_table.py --data FOLDER/bccd/VOC --out runs/bccd --epochs 60 --seeds 42 43
    python benchmarks/detection_table.py --out runs/bccd --table                  # only print what is there
    python benchmarks/detection_table.py --out runs/bccd --plot docs/results/bccd.svg

The folder is in VOC's layout. `--train` and `--dev` name its lists below ImageSets/Main.
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

START = "start"
"""The float network that all rows start from."""
ROWS = {
    START: "the start of all rows (float)",
    "float": "float",
    "bnn": "BNN",
    "xnor": "XNOR-Net",
    "bireal": "Bi-Real Net",
    "reactnet": "ReActNet",
    "bidet_base": "BiDet's binarizers alone",
    "bidet": "BiDet",
    "autobidet": "AutoBiDet",
    "bidet_sc_base": "BiDet's binarizers alone, with shortcuts",
    "bidet_sc": "BiDet (SC)",
    "autobidet_sc": "AutoBiDet (SC)",
}
DEFAULT_ROWS = ("float", "bnn", "xnor", "bireal", "bidet", "bidet_sc")
PROGRAM = str(Path(sys.executable).parent / "bnnapps")


def method_of(row: str) -> str | None:
    """The method of a row's layers."""
    return None if row in (START, "float") else row.replace("auto", "").removesuffix("_base")


def losses_of(row: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The losses of a row."""
    found: list[dict[str, Any]] = [{"name": "task"}]
    if "bidet" in row and not row.endswith("_base"):
        start = options.milestones[0]
        bottleneck = "autobidet_bottleneck" if row.startswith("auto") else "bidet_bottleneck"
        found.append({"name": bottleneck, "weight": options.bottleneck, "start": start})
        found.append({"name": "bidet_prior", "weight": options.prior, "start": start})
    return found


def command_of(row: str, seed: int, options: argparse.Namespace) -> list[str]:
    """The `bnnapps run` of a row."""
    folder = folder_of(row, seed, options)
    if (folder / "recipe.yaml").exists():
        return [PROGRAM, "run", "--resume", str(folder)]
    method = method_of(row)
    init = str(folder_of(START, seed, options) / "model.ckpt") if options.pretrain and row != START else None
    epochs = options.pretrain if row == START else options.epochs
    data = {"source": "voc", "root": str(options.data), "train_splits": options.train, "dev_splits": options.dev}
    data |= {"batch_size": options.batch_size, "eval_batch_size": 32, "size": options.size, "augment": "ssd"}
    data |= {"expand": options.expand, "workers": 0, "cache": True}
    network = {"size": options.size} | json.loads(options.network)
    train: dict[str, Any] = {"steps": None, "epochs": epochs, "lr": options.lr, "init": init}
    train |= {"select": "last", "checkpoint_every": None, "log_layers": False, "losses": losses_of(row, options)}
    train["schedule"] = {"name": "step", "warmup": 0.02, "milestones": options.milestones, "gamma": 0.1}
    settings: dict[str, Any] = {
        "seed": seed,
        "data": data,
        "model": {"name": "ssd_small", "options": network},
        "binarize": None if method is None else {"method": method, "rules": []},
        "train": train,
        "trainer": {"check_val_every_n_epoch": options.every, "accelerator": options.accelerator},
    }
    command = [PROGRAM, "run", "bidet_ssd300", "--out", str(folder)]
    for key, value in settings.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    return command


def folder_of(row: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a row's run lies."""
    out: Path = options.out
    return out / f"{row}-{seed}"


def run(options: argparse.Namespace) -> None:
    """Run what is missing, the first seed of all rows first."""
    rows = [START, *(row for row in options.rows if row != START)] if options.pretrain else options.rows
    for seed in options.seeds:
        for row in rows:
            if not (folder_of(row, seed, options) / "result.json").exists():
                command = command_of(row, seed, options)
                print(shlex.join(command), flush=True)
                subprocess.run(command, check=True)


def scores(folder: Path) -> dict[str, float] | None:
    """The metrics of a finished run after its last epoch, and its operations."""
    file = folder / "result.json"
    if not file.exists():
        return None
    found: dict[str, float] = json.loads(file.read_text())["stages"][-1]["last"]
    summary = json.loads((folder / "summary.json").read_text())
    return found | {"ops": summary["ops_paper"] / 1e6, "bytes": summary["packed_bytes"] / 1e6}


def table(options: argparse.Namespace) -> str:
    """Markdown: a row each, the mean over the seeds (and each seed's mAP)."""
    head = "| method | mAP@0.5 | seeds | share of float | mAP@[.5:.95] | false positives / image | recall | MOPs | MB |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    real = [s["map50"] for seed in options.seeds if (s := scores(folder_of("float", seed, options))) is not None]
    for row in options.rows:
        found = [s for seed in options.seeds if (s := scores(folder_of(row, seed, options))) is not None]
        if not found:
            lines.append(f"| {ROWS[row]} | open | | | | | | | |")
            continue

        def mean(key: str, found: Sequence[dict[str, float]] = found) -> float:
            return statistics.fmean(s[key] for s in found)

        each = ", ".join(f"{100 * s['map50']:.1f}" for s in found)
        share = f"{100 * mean('map50') / statistics.fmean(real):.0f} %" if real else ""
        cells = [f"{100 * mean('map50'):.1f}", each, share, f"{100 * mean('map'):.1f}"]
        cells += [f"{mean('false_positives_per_image'):.2f}", f"{100 * mean('recall'):.1f}"]
        cells += [f"{mean('ops'):.1f}", f"{mean('bytes'):.2f}"]
        lines.append(f"| {ROWS[row]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def curve(folder: Path) -> list[tuple[float, float]]:
    """Epochs done and mAP@0.5 in percent, while training."""
    points = []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "dev/map50" in record:
            points.append((float(record["epoch"]) + 1, 100 * float(record["dev/map50"])))
    return points


def plot(options: argparse.Namespace) -> None:
    """Curves of the first seed; at the end mAP against false positives, a point each seed."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    colours = plt.get_cmap("turbo")
    for i, row in enumerate(options.rows):
        colour = colours((i + 0.5) / len(options.rows))
        folders = [folder_of(row, seed, options) for seed in options.seeds]
        points = [s for folder in folders if (s := scores(folder)) is not None]
        if not points:
            continue
        first = next(folder for folder in folders if scores(folder) is not None)
        left.plot(*zip(*curve(first), strict=True), color=colour, label=ROWS[row], linewidth=1.6)
        across = [s["false_positives_per_image"] for s in points]
        right.scatter(across, [100 * s["map50"] for s in points], color=colour, label=ROWS[row])
    left.set(xlabel="epochs", ylabel="mAP@0.5, %", title="while training")
    right.set(xlabel="false positives an image", ylabel="mAP@0.5, %", title="after the last epoch")
    right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.plot, metadata={"Date": None})


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="where the run folders go")
    options.add_argument("--data", type=Path, help="a folder in VOC's layout")
    options.add_argument("--train", nargs="+", default=["trainval"], help="lists to train on")
    options.add_argument("--dev", nargs="+", default=["test"], help="lists to evaluate on")
    options.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(DEFAULT_ROWS))
    options.add_argument("--seeds", nargs="+", type=int, default=[42])
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--every", type=int, default=5, help="evaluate after every so many epochs")
    options.add_argument("--size", type=int, default=160, help="side of the images in pixels, and of SSD")
    options.add_argument("--network", default="{}", help="further options of ssd_small, as JSON")
    options.add_argument("--batch-size", type=int, default=16)
    options.add_argument("--expand", type=float, default=2.0, help="how far images are zoomed out in training")
    options.add_argument("--lr", type=float, default=2e-3, help="of Adam, before the first drop")
    options.add_argument("--milestones", nargs="+", type=float, default=[0.6, 0.85], help="where the rate drops")
    options.add_argument("--bottleneck", type=float, default=0.1, help="weight of BiDet's compression")
    options.add_argument("--prior", type=float, default=0.2, help="weight of BiDet's prior")
    options.add_argument("--pretrain", type=int, default=30, help="epochs of the float network that rows start from")
    options.add_argument("--accelerator", default="cpu", help="of Lightning's Trainer")
    options.add_argument("--table", action="store_true", help="only print the table of what is there")
    options.add_argument("--plot", type=Path, help="draw what is there into this file")
    return options.parse_args(arguments)


def main() -> None:
    """Run and print."""
    found = read_options()
    if found.plot is not None:
        plot(found)
    elif not found.table:
        run(found)
    print(table(found))


if __name__ == "__main__":
    main()

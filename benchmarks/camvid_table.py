"""CamVid with one budget for every row: float, one binary branch, Group-Net, BPAC, and DAD-Net on the road alone.

Every row has the same images, augmentation, batches, epochs, optimizer and schedule, and takes the last epoch. As
published, binary rows start from the weights of the float row of that seed (`float_on` does too: float with as many
epochs as they have had). The network of the first rows is an FCN on a small ResNet that fits a processor, and
Group-Net's dilations are smaller than the published ones because its maps are. A row that is done is not run again, so
the command can be stopped and started.

    python benchmarks/camvid_table.py --data FOLDER/CamVid --out runs/camvid --epochs 20 --seeds 42
    python benchmarks/camvid_table.py --out runs/camvid --table                 # only print what is there
    python benchmarks/camvid_table.py --out runs/camvid --plot docs/results/camvid.svg

The folder is in SegNet's layout: train.txt, val.txt and test.txt with an image and its mask a line.
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

ROWS = {
    "float": "float",
    "float_on": "float, trained on",
    "one": "one binary branch",
    "groupnet": "Group-Net, K = 5",
    "bpac": "Group-Net with BPAC, K = 5",
    "road_float": "DAD-Net, float",
    "road": "DAD-Net, binary",
}
STARTS = {"float_on": "float", "one": "float", "groupnet": "float", "bpac": "float", "road": "road_float"}
PROGRAM = str(Path(sys.executable).parent / "bnnapps")


def binarized(row: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """The `binarize` of a row; `None` for a float one."""
    kept: dict[str, Any] = {"method": "groupnet", "rules": []}
    if row == "road":
        return {"method": "xnor", "overrides": {"activation.scale": "none"}, "rules": []}
    if row in ("one", "groupnet"):
        return kept | {"overrides": {"bases": 1 if row == "one" else options.bases}}
    if row == "bpac":
        kept["overrides"] = {"bases": options.bases}
        for stage, first in (("layer3", options.dilations[0]), ("layer4", options.dilations[1])):
            use = {"method": "groupnet", "bases": options.bases, "dilations": [first + k for k in range(options.bases)]}
            kept["rules"].append({"match": f"*.{stage}.*", "types": ["residual_block"], "use": use})
        return kept
    return None


def command_of(row: str, seed: int, options: argparse.Namespace) -> list[str]:
    """The `bnnapps run` of a row."""
    folder = folder_of(row, seed, options)
    if (folder / "recipe.yaml").exists():
        return [PROGRAM, "run", "--resume", str(folder)]
    road = row.startswith("road")
    height, width = options.size
    # DAD-Net halves four times.
    size = [-(-height // 16) * 16, -(-width // 16) * 16] if road else [height, width]
    data: dict[str, Any] = {"source": "camvid", "root": str(options.data), "train_list": options.train}
    data |= {"dev_list": options.dev, "only": "road" if road else None, "batch_size": options.batch_size}
    data |= {"eval_batch_size": 16, "size": size, "fit": "stretch", "augment": "scale_crop", "crop": size}
    data |= {"scales": options.scales, "color_jitter": 0.2, "workers": 0, "cache": True}
    own = {"name": "dadnet", "backbone": None, "options": {"width": options.road_width}}
    trunk = {"backbone": "small_resnet", "head": options.head, "output_stride": options.output_stride}
    model = own if road else trunk | {"options": {"width": options.width}}
    start = STARTS.get(row)
    init = None if start is None else str(folder_of(start, seed, options) / "model.ckpt")
    train: dict[str, Any] = {"steps": None, "epochs": options.epochs, "lr": options.lr, "init": init, "stages": []}
    train |= {"optimizer": {"name": "adam", "weight_decay": options.weight_decay, "groups": []}, "select": "last"}
    train |= {"schedule": {"name": "cosine", "warmup": 0.03, "milestones": [], "end": 0.0}, "log_layers": False}
    settings: dict[str, Any] = {
        "seed": seed,
        "data": data,
        "model": model | {"pretrained": False, "channels_last": True},
        "binarize": binarized(row, options),
        "train": train,
        "trainer": {"check_val_every_n_epoch": options.every, "accelerator": "cpu"},
        "export.dialects": [],
    }
    command = [PROGRAM, "run", "dadnet_road" if road else "groupnet_fcn", "--out", str(folder)]
    for key, value in settings.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    return command


def folder_of(row: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a row's run lies."""
    out: Path = options.out
    return out / f"{row}-{seed}"


def run(options: argparse.Namespace) -> None:
    """Run what is missing, the first seed of all rows first; a row's start comes before it."""
    rows: list[str] = []
    for row in options.rows:
        rows += [r for r in (STARTS.get(row), row) if r is not None and r not in rows]
    for seed in options.seeds:
        for row in rows:
            if not (folder_of(row, seed, options) / "result.json").exists():
                command = command_of(row, seed, options)
                print(shlex.join(command), flush=True)
                subprocess.run(command, check=True)


def scores(folder: Path) -> dict[str, float] | None:
    """The metrics of a finished run after its last epoch, its operations and its packed size, both in millions."""
    file = folder / "result.json"
    if not file.exists():
        return None
    found: dict[str, float] = json.loads(file.read_text())["stages"][-1]["last"]
    summary = json.loads((folder / "summary.json").read_text())
    more = {"ops": summary["ops_paper"], "flops": summary["flops"], "bops": summary["bops"]}
    more["bytes"] = summary["packed_bytes"]
    return found | {key: value / 1e6 for key, value in more.items()}


def table(options: argparse.Namespace) -> str:
    """Markdown: a row each, the mean over the seeds (and each seed's mean IoU)."""
    lines = [
        "| | mIoU | seeds | pixel accuracy | road IoU | OPs, M | float MACs, M | binary MACs, M | MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in options.rows:
        found = [s for seed in options.seeds if (s := scores(folder_of(row, seed, options))) is not None]
        if not found:
            lines.append(f"| {ROWS[row]} | open | | | | | | | |")
            continue

        def mean(key: str, found: Sequence[dict[str, float]] = found) -> float:
            return statistics.fmean(s[key] for s in found)

        each = ", ".join(f"{100 * s['miou']:.1f}" for s in found)
        cells = [f"{100 * mean('miou'):.1f}", each, f"{100 * mean('pixel_accuracy'):.1f}"]
        cells += [f"{100 * mean('iou/road'):.1f}", f"{mean('ops'):.1f}", f"{mean('flops'):.1f}"]
        cells += [f"{mean('bops'):.1f}", f"{mean('bytes'):.2f}"]
        lines.append(f"| {ROWS[row]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def class_lines(options: argparse.Namespace) -> str:
    """Markdown: the IoU of each class in percent, of the first seed."""
    found = {row: scores(folder_of(row, options.seeds[0], options)) for row in options.rows if row[:4] != "road"}
    done = {row: values for row, values in found.items() if values is not None}
    names = [key.removeprefix("iou/") for values in list(done.values())[:1] for key in values if key.startswith("iou/")]
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for row, values in done.items():
        cells = [f"{100 * values[f'iou/{name}']:.1f}" for name in names]
        lines.append(f"| {ROWS[row]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def curve(folder: Path) -> list[tuple[float, float]]:
    """Epochs done and mean IoU in percent, while training."""
    points: dict[float, float] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "dev/miou" in record:
            points.setdefault(float(record["epoch"]) + 1, 100 * float(record["dev/miou"]))
    return sorted(points.items())


def plot(options: argparse.Namespace) -> None:
    """Curves of the first seed: all classes on the left, the road alone on the right."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    colours = plt.get_cmap("turbo")
    for i, row in enumerate(options.rows):
        folder = folder_of(row, options.seeds[0], options)
        if scores(folder) is None:
            continue
        axes = panels[int(row.startswith("road"))]
        axes.plot(*zip(*curve(folder), strict=True), color=colours((i + 0.5) / len(options.rows)), label=ROWS[row])
    panels[0].set(xlabel="epochs", ylabel="mIoU of 11 classes, %", title="FCN")
    panels[1].set(xlabel="epochs", ylabel="mIoU of road and rest, %", title="DAD-Net")
    for axes in panels:
        axes.legend(fontsize=8, frameon=False)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.plot, metadata={"Date": None})


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="where the run folders go")
    options.add_argument("--data", type=Path, help="the folder of SegNet's CamVid")
    options.add_argument("--train", default="train", help="the list to train on; several with +")
    options.add_argument("--dev", default="test", help="the list to evaluate on")
    options.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    options.add_argument("--seeds", nargs="+", type=int, default=[42])
    options.add_argument("--epochs", type=int, default=20)
    options.add_argument("--every", type=int, default=5, help="evaluate after every so many epochs")
    options.add_argument("--size", nargs=2, type=int, default=[120, 160], help="height and width of the images")
    options.add_argument("--scales", nargs=2, type=float, default=[0.75, 1.5], help="smallest and largest factor")
    options.add_argument("--width", type=int, default=16, help="channels of the small ResNet's first stage")
    options.add_argument("--road-width", type=int, default=16, help="channels of DAD-Net's first stage")
    options.add_argument("--head", default="fcn16s", help="fcn32s, fcn16s or fcn8s")
    options.add_argument("--output-stride", type=int, default=8, help="of the ResNet: 8, 16 or 32")
    options.add_argument("--bases", type=int, default=5, help="K of Group-Net")
    options.add_argument("--dilations", nargs=2, type=int, default=[1, 2], help="BPAC's first one in layer3, layer4")
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--lr", type=float, default=2e-3, help="of Adam, at the top of the cosine")
    options.add_argument("--weight-decay", type=float, default=1e-5)
    options.add_argument("--table", action="store_true", help="only print the table of what is there")
    options.add_argument("--plot", type=Path, help="draw what is there into this file")
    return options.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    found = parsed(arguments)
    if found.plot is not None:
        plot(found)
    elif not found.table:
        run(found)
    print(table(found), class_lines(found), sep="\n\n")


if __name__ == "__main__":
    main()

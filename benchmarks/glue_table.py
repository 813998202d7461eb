"""GLUE with one budget for every row: float, naive 1-1-1, BiBERT, BiT in one step, BiT in several.

Each pair of task and seed trains a float teacher, which every student of that task and seed shares as teacher and as
start. A row that is done is not run again, so the command can be stopped and started. The table is what the run
folders hold.

    python benchmarks/glue_table.py --model FOLDER --data ../glue --out runs/glue --tasks cola mrpc --seeds 42 43
    python benchmarks/glue_table.py --out runs/glue --table                       # only print what is there
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
    "float": ("bibert_glue", "minilm"),
    "naive": ("naive_glue", "minilm"),
    "bibert": ("bibert_glue", "minilm"),
    "bit_single": ("bit_glue", "single_step+minilm"),
    "bit_multi": ("bit_glue", "minilm"),
}
TITLES = {
    "float": "float",
    "naive": "naive 1-1-1",
    "bibert": "BiBERT",
    "bit_single": "BiT, single step",
    "bit_multi": "BiT, multi step",
}
PROGRAM = str(Path(sys.executable).parent / "bnnapps")
TASKS = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli")


def stages_of(row: str, task: str, options: argparse.Namespace, teacher: Path) -> list[dict[str, Any]]:
    """The stages of a row's recipe: the teacher's own, or the students', with the shared teacher put in.

    `options.epochs` is the budget of all students of a row together; without it and `options.lr`, the recipe's own.
    """
    recipe, profile = ROWS[row]
    stages = load_recipe(recipe, [f"profile={profile}+{task}", "data.root=unused", "model.path=unused"]).train.stages
    plain = [stage.model_dump(mode="json", exclude_unset=True) for stage in stages]
    if row == "float":
        return plain[:1]
    students = [{k: str(teacher) if v == "teacher" else v for k, v in stage.items()} for stage in plain[1:]]
    for stage in students:
        if options.epochs is not None:
            stage["epochs"] = options.epochs // len(students)
        if options.lr is not None:
            stage["lr"] = options.lr
    return students


def command_of(row: str, task: str, seed: int, options: argparse.Namespace) -> list[str]:
    """The `bnnapps run` of a row."""
    recipe, profile = ROWS[row]
    teacher = folder_of("float", task, seed, options) / "model.ckpt"
    settings = {
        "profile": f"{profile}+{task}",
        "seed": seed,
        "data.root": str(options.data),
        "model.path": str(options.model),
        "train.stages": json.dumps(stages_of(row, task, options, teacher)),
        "export.dialects": "[]",
    }
    if options.train_size is not None:
        settings["data.train_size"] = options.train_size
    if options.batch_size is not None:
        settings["data.batch_size"] = options.batch_size
    if row == "float":
        settings["data.batch_size"] = 32
    folder = folder_of(row, task, seed, options)
    if (folder / "recipe.yaml").exists():
        return [PROGRAM, "run", "--resume", str(folder)]
    command = [PROGRAM, "run", recipe, "--out", str(folder)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return command


def folder_of(row: str, task: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a row's run lies."""
    out: Path = options.out
    return out / f"{task}-{seed}-{row}"


def run(options: argparse.Namespace) -> None:
    """Run what is missing, the first seed of all tasks first."""
    for seed in options.seeds:
        for task in options.tasks:
            for row in options.rows if "float" in options.rows else ["float", *options.rows]:
                folder = folder_of(row, task, seed, options)
                if (folder / "result.json").exists():
                    continue
                command = command_of(row, task, seed, options)
                print(shlex.join(command), flush=True)
                subprocess.run(command, check=True)


def score(folder: Path) -> float | None:
    """The dev metric of a finished run in percent: the one that the papers put in their tables (MRPC: accuracy)."""
    file = folder / "result.json"
    if not file.exists():
        return None
    stage = json.loads(file.read_text())["stages"][-1]
    metrics: dict[str, float] = stage["metrics"]
    return 100 * metrics[stage["monitor"].removeprefix("dev/")]


def table(options: argparse.Namespace) -> str:
    """Markdown: a row each, the mean over the seeds (and each seed's figure)."""
    lines = ["| | " + " | ".join(options.tasks) + " | average |", "|---" * (len(options.tasks) + 2) + "|"]
    for row in options.rows:
        cells, means = [], []
        for task in options.tasks:
            found = [s for seed in options.seeds if (s := score(folder_of(row, task, seed, options))) is not None]
            cells.append(f"{statistics.fmean(found):.1f} ({', '.join(f'{s:.1f}' for s in found)})" if found else "open")
            means += [statistics.fmean(found)] if found else []
        average = f"{statistics.fmean(means):.1f}" if len(means) == len(options.tasks) else "open"
        lines.append(f"| {TITLES[row]} | " + " | ".join(cells) + f" | {average} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="where the run folders go")
    options.add_argument("--model", type=Path, help="a folder with a pretrained BERT")
    options.add_argument("--data", type=Path, help="the folder that holds CoLA/train.tsv and so on")
    options.add_argument("--tasks", nargs="+", choices=TASKS, default=["cola", "mrpc"])
    options.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    options.add_argument("--seeds", nargs="+", type=int, default=[42, 43])
    options.add_argument("--epochs", type=int, help="of all students of a row together; by default the published ones")
    options.add_argument("--lr", type=float, help="of every student; by default the published one of its method")
    options.add_argument("--batch-size", type=int, help="of the students; by default the published one")
    options.add_argument("--train-size", type=int, help="train every row, float too, on so many texts only")
    options.add_argument("--table", action="store_true", help="only print the table of what is there")
    found = options.parse_args(arguments)
    if not found.table:
        run(found)
    print(table(found))


if __name__ == "__main__":
    main()

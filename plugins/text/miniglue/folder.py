"""Writes generated tasks in GLUE's own tsv layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from bnnapps.plugins.text.glue import Example, GlueTask, get_task
from bnnapps.plugins.text.miniglue import generate

_FILLER = "generated"
_DEV_VOTES = ("label1", "label2", "label3", "label4", "label5")


def write_folder(
    root: str | Path, tasks: Iterable[str], seed: int = 0, sizes: Mapping[str, int] | None = None
) -> list[Path]:
    """Write train and dev files of the tasks under `root`, as `load_folder` reads them, and return their paths.

    `sizes` maps `train` and `dev` to numbers of examples. Columns that GLUE has and a grammar does not fill say
    `generated`.
    """
    paths = []
    for task in [get_task(name) for name in tasks]:
        folder = Path(root) / task.folder
        folder.mkdir(parents=True, exist_ok=True)
        for split in ("train", *task.dev):
            size = sizes.get("train" if split == "train" else "dev") if sizes is not None else None
            path = folder / f"{split}.tsv"
            write_tsv(path, task, split, generate(task.name, split, size, seed))
            paths.append(path)
    return paths


def write_tsv(path: Path, task: GlueTask, split: str, examples: Iterable[Example]) -> None:
    """Write labelled examples with the columns that GLUE gives this split."""
    columns = split_columns(task, split)
    lines = ["\t".join(columns)] if task.has_header(split) else []
    for number, example in enumerate(examples):
        fields = {
            columns[0]: str(number) if columns[0] in ("index", "id") else _FILLER,
            task.text: example.text,
            task.label: _code(task, example.label),
        }
        if task.pair is not None and example.pair is not None:
            fields[task.pair] = example.pair
        lines.append("\t".join(fields.get(column, _FILLER) for column in columns))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def split_columns(task: GlueTask, split: str) -> tuple[str, ...]:
    """The columns of a labelled split: MNLI's dev files have five votes where train.tsv has one."""
    if task.name == "mnli" and split in task.dev:
        return (*task.columns[:-2], *_DEV_VOTES, task.label)
    return task.columns


def _code(task: GlueTask, label: int | float | None) -> str:
    if label is None:
        raise ValueError("only labelled examples can be written")
    return f"{label:.3f}" if task.regression else task.label_codes[int(label)]

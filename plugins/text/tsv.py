"""Reads GLUE's own tsv files: tab-separated, no quoting, one example a line.

Lines end at a line feed only (a carriage return before it is dropped), because texts hold other characters that
Python takes for line ends. A quotation mark is text, never a quote. Leading and trailing blanks of a text are dropped.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from bnnapps.errors import DataError, UsageError
from bnnapps.plugins.text.glue import SCORE_RANGE, Example, GlueTask, check_splits

_BOM = b"\xef\xbb\xbf"


class _BrokenLineError(Exception):
    """A line that is torn apart or lacks a text; the one kind that the distributed files themselves contain."""


def load_folder(root: str | Path, task: GlueTask, splits: tuple[str, ...] | None = None) -> dict[str, list[Example]]:
    """The splits of a task from a folder in GLUE's layout, by default train and dev.

    `root` is the folder that contains the task's own (`root/RTE/train.tsv`), or the task's own folder. Test splits are
    read without labels. Raises DataError for a missing folder or file and for a malformed line.
    """
    wanted = check_splits(task, splits)
    folder = find_folder(root, task)
    for split in wanted:
        if not (folder / f"{split}.tsv").is_file():
            needed = ", ".join(f"{s}.tsv" for s in wanted)
            raise DataError(
                f"no file '{split}.tsv' in {folder}: {task.folder} needs {needed} there, as in the GLUE distribution"
            )
    return {s: read_tsv(folder / f"{s}.tsv", task, s, labelled=s not in task.test) for s in wanted}


def find_folder(root: str | Path, task: GlueTask) -> Path:
    """The task's own folder: `root/<folder>` if it exists, else `root` itself if it holds the task's files."""
    root = Path(root).expanduser()
    inner = root / task.folder
    if inner.is_dir():
        return inner
    if any((root / f"{split}.tsv").is_file() for split in task.splits):
        return root
    layout = ", ".join(f"{task.folder}/{s}.tsv" for s in ("train", *task.dev))
    if not root.is_dir():
        raise DataError(f"no data folder {root}: expected a folder in GLUE's layout, with {layout}")
    raise DataError(f"no folder '{task.folder}' in {root}: expected GLUE's layout, with {layout}")


def read_tsv(path: str | Path, task: GlueTask, split: str, labelled: bool = True) -> list[Example]:
    """The examples of one tsv file.

    `split` decides whether a header is expected; without `labelled` every label is None and no label column is needed.
    Raises DataError that names the file, the line and what is wrong.
    """
    path = Path(path)
    if split not in task.splits:
        raise UsageError(f"{task.folder} has no split '{split}'; its splits are {', '.join(task.splits)}")
    lines = _lines(path)
    columns = task.columns
    if task.has_header(split):
        number, first = next(lines, (1, b""))
        if not first:
            raise DataError(f"{path} is empty")
        columns = tuple(name.strip() for name in _decode(path, number, first).split("\t"))
    text, pair, label = _indices(path, task, columns, labelled)
    examples: list[Example] = []
    skipped: list[str] = []
    for number, raw in lines:
        fields = _decode(path, number, raw).split("\t")
        try:
            _check_fields(fields, columns, (text, pair))
        except _BrokenLineError as problem:
            skipped.append(f"{path}, line {number}: {problem}")
            if len(skipped) > task.tolerated:
                raise DataError(skipped[0]) from None
            continue
        value = _label(task, fields[label].strip(), f"{path}, line {number}") if label is not None else None
        examples.append(Example(fields[text].strip(), fields[pair].strip() if pair is not None else None, value))
    if not examples:
        raise DataError(f"{path} holds no example" + (f" ({skipped[0]})" if skipped else ""))
    if skipped:
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        warnings.warn(f"skipped a broken line, {skipped[0]}{more}", stacklevel=2)
    return examples


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines without their ends; blank lines are left out."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise DataError(f"cannot read {path}: {problem.strerror}") from None
    for number, raw in enumerate(content.removeprefix(_BOM).split(b"\n"), start=1):
        line = raw.removesuffix(b"\r")
        if line.strip(b" "):
            yield number, line


def _decode(path: Path, number: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        value = raw[problem.start]
        raise DataError(
            f"{path}, line {number}: byte {problem.start + 1} (0x{value:02x}) is not UTF-8; save the file as UTF-8"
        ) from None


def _indices(path: Path, task: GlueTask, columns: Sequence[str], labelled: bool) -> tuple[int, int | None, int | None]:
    """Where the text, the pair and the label stand."""
    needed = [name for name in (task.text, task.pair, task.label if labelled else None) if name is not None]
    for name in needed:
        if name not in columns:
            raise DataError(f"{path}, line 1: no column '{name}'; the header is {', '.join(columns)}")
    pair = columns.index(task.pair) if task.pair is not None else None
    return columns.index(task.text), pair, columns.index(task.label) if labelled else None


def _check_fields(fields: Sequence[str], columns: Sequence[str], texts: tuple[int, int | None]) -> None:
    if len(fields) != len(columns):
        count = f"{len(fields)} column" + ("s" if len(fields) != 1 else "")
        raise _BrokenLineError(f"{count}, expected {len(columns)} ({', '.join(columns)})")
    for index in texts:
        if index is not None and not fields[index].strip():
            raise _BrokenLineError(f"the column '{columns[index]}' is empty")


def _label(task: GlueTask, value: str, where: str) -> int | float:
    """A label as a class index or a score."""
    if not task.regression:
        if value not in task.label_codes:
            known = ", ".join(f"'{code}'" for code in task.label_codes)
            raise DataError(f"{where}: label '{value}' is not one of {known}")
        return task.label_codes.index(value)
    try:
        score = float(value)
    except ValueError:
        raise DataError(f"{where}: score '{value}' is not a number") from None
    low, high = SCORE_RANGE
    if math.isnan(score) or not low <= score <= high:
        raise DataError(f"{where}: score {value} is outside {low:g} to {high:g}")
    return score

"""Data sets and files from the Hugging Face hub.

The hub is asked once; what it cannot give now comes from the local cache, and otherwise there is one clear error. (Left
to themselves the libraries repeat each request for half a minute.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from bnnapps.errors import DataError, HubError, MissingExtraError
from bnnapps.plugins.text.glue import HUB_NAME, Example, GlueTask, check_splits

_HUB_SPLITS = {"dev": "validation", "dev_matched": "validation_matched", "dev_mismatched": "validation_mismatched"}


def load_hub(
    task: GlueTask,
    name: str = HUB_NAME,
    revision: str | None = None,
    splits: tuple[str, ...] | None = None,
    cache_dir: str | Path | None = None,
) -> dict[str, list[Example]]:
    """The splits of a task, by default train and dev, through Hugging Face datasets.

    Args:
        task: its name is the name of the configuration.
        name: a data set on the hub, or a local folder of the same layout; its columns must be those of `nyu-mll/glue`.
        revision: a branch, tag or commit on the hub.
        splits: as the folder layout names them (`train`, `dev`, `dev_matched`, `test`, ...).
        cache_dir: where datasets keeps its prepared files, by default its own cache.

    Raises HubError if the hub cannot be reached or lacks the data set, DataError if columns or labels are not GLUE's.
    """
    wanted = check_splits(task, splits)
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "text", "data.source: hub") from None
    source: dict[str, Any] = {"path": str(Path(name).expanduser()), "name": task.name}
    if not Path(source["path"]).is_dir():
        source = _fetched(task, name, revision)
    try:
        found = datasets.load_dataset(**source, cache_dir=str(cache_dir) if cache_dir is not None else None)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as problem:
        raise HubError(f"the data set '{name}' has no usable configuration '{task.name}': {_line(problem)}") from None
    return {split: _examples(task, found, split, name) for split in wanted}


def _fetched(task: GlueTask, name: str, revision: str | None) -> dict[str, Any]:
    """Fetches the files of one configuration; returns the arguments of `load_dataset` for them.

    Which files these are stands at the head of the repository's README.md.
    """
    folder = snapshot(name, "dataset", revision, ("README.md",), _HINT)
    from huggingface_hub import metadata_load

    readme = folder / "README.md"
    card = metadata_load(readme) if readme.is_file() else None
    try:
        configs = {entry["config_name"]: entry.get("data_files", []) for entry in (card or {}).get("configs", [])}
        files = {entry["split"]: _listed(entry["path"]) for entry in configs.get(task.name, [])}
    except (KeyError, TypeError, AttributeError):
        raise HubError(
            f"the data set '{name}' has a README.md whose list of files is not understood; {_HINT}"
        ) from None
    if not files:
        known = ", ".join(configs) if configs else "none"
        raise HubError(
            f"the data set '{name}' has no configuration '{task.name}', its README.md lists {known}; {_HINT}"
        )
    folder = snapshot(
        name, "dataset", revision, [pattern for patterns in files.values() for pattern in patterns], _HINT
    )
    data_files = {split: [str(folder / pattern) for pattern in patterns] for split, patterns in files.items()}
    return {"path": "parquet", "data_files": data_files}


def _listed(path: str | list[str]) -> list[str]:
    return [path] if isinstance(path, str) else path


_HINT = (
    "check the name and the connection, or set data.source to 'miniglue', or to 'folder' with data.root (the folder of "
    "GLUE's tsv files)"
)


def snapshot(
    name: str,
    kind: Literal["model", "dataset"],
    revision: str | None,
    patterns: Sequence[str],
    hint: str,
    local_only: bool = False,
) -> Path:
    """A local folder with the files of a hub repository that match the patterns.

    Files in the cache are used where the hub cannot be reached, and always with `local_only`. `hint` ends the message
    of the HubError and says what to do instead.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise MissingExtraError("huggingface_hub", "text", f"the {kind} '{name}'") from None
    what = "data set" if kind == "dataset" else "model"
    try:
        found = huggingface_hub.snapshot_download(
            name, repo_type=kind, revision=revision, allow_patterns=list(patterns), local_files_only=local_only
        )
    except errors.HFValidationError:
        raise HubError(f"'{name}' is neither a folder nor the name of a {what} on the hub; {hint}") from None
    except errors.LocalEntryNotFoundError:
        where = "is not in the local cache" if local_only else "is not in the local cache and the hub cannot be reached"
        raise HubError(f"the {what} '{name}' {where}; {hint}") from None
    except errors.RevisionNotFoundError:
        raise HubError(f"the {what} '{name}' has no revision '{revision}' on the hub; {hint}") from None
    except errors.RepositoryNotFoundError:
        raise HubError(f"the {what} '{name}' is not on the hub, or needs a login; {hint}") from None
    except (errors.HfHubHTTPError, OSError) as problem:
        raise HubError(f"the {what} '{name}' could not be fetched ({_line(problem)}); {hint}") from None
    return Path(found)


def _examples(task: GlueTask, found: Any, split: str, name: str) -> list[Example]:
    """The rows of a split as examples; labels go by the names that the data set gives its classes."""
    hub_split = _HUB_SPLITS.get(split, split)
    where = f"the data set '{name}', {task.name}, split '{hub_split}'"
    if hub_split not in found:
        raise DataError(f"{where}: there is no such split, only {', '.join(found)}")
    rows = found[hub_split]
    labelled = split not in task.test
    for column in (*task.hub_columns, *(("label",) if labelled else ())):
        if column not in rows.column_names:
            raise DataError(f"{where}: no column '{column}', only {', '.join(rows.column_names)}")
    texts = [[str(text).strip() for text in rows[column]] for column in task.hub_columns]
    pairs: Sequence[str | None] = texts[1] if len(texts) > 1 else [None] * len(texts[0])
    labels = _labels(task, rows, where) if labelled else [None] * len(texts[0])
    return [Example(*fields) for fields in zip(texts[0], pairs, labels, strict=True)]


def _labels(task: GlueTask, rows: Any, where: str) -> list[int | float]:
    values = list(rows["label"])
    if task.labels is None:
        return [round(float(value), 4) for value in values]
    names = getattr(rows.features["label"], "names", None)
    if names is None:
        order = list(range(task.num_labels))
    elif sorted(names) == sorted(task.labels):
        order = [task.labels.index(label) for label in names]
    else:
        raise DataError(f"{where}: its labels are {', '.join(names)}, expected {', '.join(task.labels)}")
    for value in values:
        if value not in range(len(order)):
            raise DataError(f"{where}: label {value} is outside 0 to {len(order) - 1}")
    return [order[value] for value in values]


def _line(problem: BaseException) -> str:
    """The message of an error on one line, shortened."""
    text = " ".join(str(problem).split())
    return text if len(text) <= 200 else text[:200] + " ..."

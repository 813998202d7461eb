"""CIFAR-10 and CIFAR-100 from their official files: the Python batches or the binary ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bnnapps.errors import DataError
from bnnapps.plugins.classification.sets import Array, ArraySet, ImageSplits, check_labels, check_splits
from bnnapps.plugins.classification.unpickle import read_pickle

_PIXELS = 3 * 32 * 32
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class _Layout:
    """Where a version of the set keeps its files."""

    folder: str
    train: tuple[str, ...]
    dev: str
    names: str


@dataclass(frozen=True)
class _Cifar:
    """One of the two sets: its classes, the key of the labels in a pickle, their place in a binary record."""

    title: str
    classes: int
    labels: bytes
    names: bytes
    before: int
    python: _Layout
    binary: _Layout


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_SETS = {
    "cifar10": _Cifar(
        "CIFAR-10",
        10,
        b"labels",
        b"label_names",
        1,
        _Layout("cifar-10-batches-py", _BATCHES, "test_batch", "batches.meta"),
        _Layout("cifar-10-batches-bin", tuple(f"{b}.bin" for b in _BATCHES), "test_batch.bin", "batches.meta.txt"),
    ),
    "cifar100": _Cifar(
        "CIFAR-100",
        100,
        b"fine_labels",
        b"fine_label_names",
        2,
        _Layout("cifar-100-python", ("train",), "test", "meta"),
        _Layout("cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt"),
    ),
}


def load_cifar(name: str, root: str | Path) -> ImageSplits:
    """CIFAR-10 or CIFAR-100 from the folder of its batches, or from one that holds that folder.

    The official test set is the dev set.

    Raises:
        DataError: a file is missing, truncated, unsafe, or holds something else.
    """
    kind = _SETS[name]
    root = Path(root).expanduser()
    folder, layout = _find(kind, root)
    read = _read_python if layout is kind.python else _read_binary
    missing = [f for f in (*layout.train, layout.dev) if not (folder / f).is_file()]
    if missing:
        raise DataError(
            f"no file '{missing[0]}' in {folder}: {kind.title} needs {', '.join((*layout.train, layout.dev))}"
        )
    parts = [read(folder / file, kind) for file in layout.train]
    train = ArraySet(torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]))
    splits = ImageSplits(
        train,
        read(folder / layout.dev, kind),
        _names(folder / layout.names, kind),
        f"{kind.title} (real, from a folder)",
    )
    return check_splits(splits, str(folder))


def _find(kind: _Cifar, root: Path) -> tuple[Path, _Layout]:
    for layout in (kind.python, kind.binary):
        for folder in (root / layout.folder, root):
            if any((folder / file).is_file() for file in (*layout.train, layout.dev)):
                return folder, layout
    wanted = f"'{kind.python.folder}' or '{kind.binary.folder}'"
    if not root.is_dir():
        raise DataError(f"no data folder {root}: expected {kind.title}'s folder {wanted}, or one that holds it")
    raise DataError(f"no {kind.title} in {root}: expected the folder {wanted}, or its files")


def _read_python(path: Path, kind: _Cifar) -> ArraySet:
    found = read_pickle(path)
    for key in (b"data", kind.labels):
        if key not in found:
            known = ", ".join(sorted(k.decode("latin1") for k in found if isinstance(k, bytes)))
            raise DataError(f"{path} has no '{key.decode()}'; it has {known}: is it a batch of {kind.title}?")
    images, labels = found[b"data"], _integers(found[kind.labels])
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != _PIXELS:
        shape = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise DataError(f"{path}: 'data' is {shape}; expected uint8 of shape (N, {_PIXELS})")
    if labels is None or len(labels) != len(images):
        count = "no list of whole numbers" if labels is None else f"{len(labels)} labels"
        raise DataError(f"{path}: {len(images)} images, but {count} in '{kind.labels.decode()}'")
    return _checked(images, labels, kind, path)


def _integers(values: Any) -> Labels | None:
    if not isinstance(values, (list, np.ndarray)) or not len(values):
        return None
    array = np.asarray(values) if all(np.ndim(v) == 0 for v in values) else np.empty(0)
    return array.astype(np.int64) if array.dtype.kind in "iu" and array.ndim == 1 else None


def _read_binary(path: Path, kind: _Cifar) -> ArraySet:
    """Records of one label byte (CIFAR-100: coarse and fine) and 3072 bytes of an image."""
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}") from None
    record = kind.before + _PIXELS
    if len(content) == 0 or len(content) % record:
        raise DataError(f"{path} is damaged or truncated: it has {len(content)} bytes, no multiple of {record}")
    rows = content.reshape(-1, record)
    return _checked(rows[:, kind.before :], rows[:, kind.before - 1].astype(np.int64), kind, path)


def _checked(images: Array, labels: Labels, kind: _Cifar, path: Path) -> ArraySet:
    found = ArraySet(torch.from_numpy(np.ascontiguousarray(images)).reshape(-1, 3, 32, 32), torch.from_numpy(labels))
    check_labels(found.labels, kind.classes, str(path))
    return found


def _names(path: Path, kind: _Cifar) -> tuple[str, ...]:
    """The names of the classes; numbers where the file that has them was not copied."""
    if not path.is_file():
        return tuple(str(i) for i in range(kind.classes))
    if path.suffix == ".txt":
        names = path.read_text(encoding="utf-8", errors="replace").split()
    else:
        found = read_pickle(path).get(kind.names)
        listed = found if isinstance(found, list) else []
        names = [n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in listed]
    if len(names) != kind.classes:
        raise DataError(f"{path} has {len(names)} names of classes; {kind.title} has {kind.classes}")
    return tuple(names)

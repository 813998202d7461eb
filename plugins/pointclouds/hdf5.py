"""Clouds in HDF5 files, as ModelNet40 and S3DIS are often handed on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnnapps.errors import DataError, MissingExtraError
from bnnapps.plugins.pointclouds.cache import cached_array, files_key
from bnnapps.plugins.pointclouds.sets import CloudSet, Splits, check_finite, unit_sphere

S3DIS_CLASSES = (
    "ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board",
    "clutter",
)  # fmt: skip


def load_modelnet_hdf5(root: Path, normals: bool) -> Splits:
    """ModelNet40 with 2,048 points a shape, in the unit sphere, from HDF5 files.

    `train_files.txt` and `test_files.txt` name them, `shape_names.txt` the classes. Each file has `data` (N, P, 3),
    `label` (N, 1) and, where `normals` asks for it, `normal` (N, P, 3).

    Raises:
        DataError: a file is missing or malformed.
        MissingExtraError: h5py is not installed.
    """
    names = _lines(root / "shape_names.txt")
    parts = []
    for split in ("train", "test"):
        files = [_beside(root, line) for line in _lines(root / f"{split}_files.txt")]
        points, labels = _read(files, ("data", "normal") if normals else ("data",), "label")
        for path, first, last in _spans(files):
            if labels[first:last].min() < 0 or labels[first:last].max() >= len(names):
                raise DataError(f"{path}: a label lies outside 0 to {len(names) - 1}, the lines of shape_names.txt")
            check_finite(points[first:last].reshape(-1, points.shape[-1]), str(path))
        parts.append(CloudSet(unit_sphere(points), labels, str(root)))
    stored = parts[0].stored
    return Splits(
        parts[0], parts[1], tuple(names), f"{root.name}, {len(names)} classes, {stored} points a cloud (HDF5)"
    )


def load_s3dis(root: Path, cache: Path, test_area: int) -> Splits:
    """S3DIS in blocks of 1 m x 1 m with 4,096 points of nine numbers (PointNet, Qi et al., 2017).

    The numbers are place, colour and place in the room. The folder (or its `raw`, as PyG leaves it) has
    `all_files.txt`, which names files with `data` (N, 4096, 9) and `label` (N, 4096), and `room_filelist.txt`, the
    room of each block; a room's name begins with its area. The blocks are unpacked once into the folder `cache`.

    Raises:
        DataError: a file is missing or malformed, or no block is of the area.
        MissingExtraError: h5py is not installed.
    """
    root = root / "raw" if not (root / "all_files.txt").is_file() and (root / "raw").is_dir() else root
    files = [_beside(root, line) for line in _lines(root / "all_files.txt")]
    rooms = _lines(root / "room_filelist.txt")
    spans = _spans(files)
    total = spans[-1][2]
    if len(rooms) != total:
        raise DataError(f"{root / 'room_filelist.txt'} names {len(rooms)} rooms, and the files hold {total} blocks")
    labels = np.concatenate([_dataset(path, "label") for path in files]).astype(np.int64)
    first = _dataset(files[0], "data").shape

    def fill(target: NDArray[np.float32]) -> None:
        for path, start, stop in spans:
            block = _dataset(path, "data")
            check_finite(block.reshape(-1, block.shape[-1]), str(path))
            target[start:stop] = block

    key = files_key(files, what="s3dis")
    points = cached_array(cache, f"s3dis-{key}", (total, *first[1:]), fill)
    if labels.min() < 0 or labels.max() >= len(S3DIS_CLASSES):
        raise DataError(f"{root}: a label lies outside 0 to {len(S3DIS_CLASSES) - 1}")
    held_out = np.array([room.startswith(f"Area_{test_area}_") for room in rooms])
    parts = []
    for name, chosen in (("training", ~held_out), ("dev", held_out)):
        if not chosen.any():
            raise DataError(
                f"{root}: no room for the {name} set where area {test_area} is evaluated: see data.test_area"
            )
        parts.append(CloudSet(np.array(points[chosen]), labels[chosen], str(root)))
    return Splits(parts[0], parts[1], S3DIS_CLASSES, f"S3DIS, area {test_area} held out")


def _lines(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise DataError(f"no file {path}: data.root must be the folder that has it") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path} cannot be read: {problem}") from None
    if not found:
        raise DataError(f"{path} is empty")
    return found


def _beside(root: Path, line: str) -> Path:
    """The file of a list, by its name: lists carry the folders of the machine that they were made on."""
    path = root / Path(line.replace("\\", "/")).name
    if not path.is_file():
        raise DataError(f"{path} is missing, which a list in {root} names: fetch the data again")
    return path


def _dataset(path: Path, name: str) -> NDArray[Any]:
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "pointclouds", "reading HDF5 files") from None
    try:
        with h5py.File(path, "r") as file:
            found: NDArray[Any] = file[name][()]
    except (OSError, KeyError) as problem:
        raise DataError(f"{path}: '{name}' cannot be read: {' '.join(str(problem).split())}") from None
    return found


_LENGTHS = "label"


def _spans(files: Sequence[Path]) -> list[tuple[Path, int, int]]:
    """Each file with the numbers of its first cloud and the one behind its last."""
    found, at = [], 0
    for path in files:
        count = len(_dataset(path, _LENGTHS))
        found.append((path, at, at + count))
        at += count
    return found


def _read(files: Sequence[Path], points: Sequence[str], label: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    clouds, labels = [], []
    for path in files:
        channels = [_dataset(path, name) for name in points]
        each = np.asarray(_dataset(path, label)).reshape(-1)
        if any(c.ndim != 3 or c.shape[2] != 3 or len(c) != len(each) for c in channels):
            shapes = ", ".join(str(c.shape) for c in channels)
            raise DataError(f"{path}: points of shape {shapes} do not fit {len(each)} labels; expected (N, P, 3)")
        clouds.append(np.concatenate(channels, axis=2).astype(np.float32))
        labels.append(each.astype(np.int64))
    if len({c.shape[1] for c in clouds}) > 1:
        raise DataError(f"{files[0].parent}: the files hold clouds of different numbers of points")
    return np.concatenate(clouds), np.concatenate(labels)

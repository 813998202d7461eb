"""ModelNet10 and ModelNet40 as folders of `.off` meshes, and ModelNet10 as an archive of voxel grids."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bnnapps.errors import DataError
from bnnapps.plugins.pointclouds.cache import cached_array, files_key
from bnnapps.plugins.pointclouds.mesh import read_off
from bnnapps.plugins.pointclouds.sets import CloudSet, Splits, unit_sphere

_SPLITS = ("train", "test")


def load_modelnet(root: Path, cache: Path, stored: int, seed: int, normals: bool) -> Splits:
    """Clouds drawn on the meshes of `CLASS/{train,test}/*.off`, uniform by area, in the unit sphere.

    `stored` points of each mesh are drawn once, with the seed, and kept in the folder `cache`.

    Raises:
        DataError: a folder or file is missing or damaged.
    """
    files, classes = _files(root)
    parts = []
    for split in _SPLITS:
        paths = [path for path, _ in files[split]]
        labels = np.array([label for _, label in files[split]], dtype=np.int64)
        key = files_key(paths, stored=stored, seed=seed, normals=normals, split=split)
        points = _drawn(paths, cache, f"modelnet-{split}-{key}", stored, seed, normals)
        parts.append(CloudSet(points, labels, str(root)))
    return Splits(
        parts[0], parts[1], classes, f"{root.name}, {len(classes)} classes of meshes, {stored} points drawn on each"
    )


def _files(root: Path) -> tuple[dict[str, list[tuple[Path, int]]], tuple[str, ...]]:
    root = root / "raw" if (root / "raw").is_dir() else root  # as PyG's ModelNet leaves them
    if not root.is_dir():
        raise DataError(f"data.root {root} is no folder: expected one with CLASS/train/*.off and CLASS/test/*.off")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and any((p / split).is_dir() for split in _SPLITS))
    classes = tuple(p.name for p in folders)
    if not classes:
        raise DataError(
            f"{root} holds no folder with 'train' or 'test': expected CLASS/train/*.off as ModelNet has them"
        )
    found: dict[str, list[tuple[Path, int]]] = {}
    for split in _SPLITS:
        found[split] = [
            (path, label) for label, folder in enumerate(folders) for path in sorted((folder / split).glob("*.off"))
        ]
        if not found[split]:
            raise DataError(f"{root}: no class has a file {split}/*.off")
    return found, classes


def _drawn(paths: list[Path], cache: Path, name: str, stored: int, seed: int, normals: bool) -> NDArray[np.float32]:
    channels = 6 if normals else 3

    def fill(target: NDArray[np.float32]) -> None:
        for i, path in enumerate(paths):
            points, _ = read_off(path).sample(stored, np.random.default_rng([seed, i]))
            target[i] = unit_sphere(points)[:, :channels]

    return cached_array(cache, name, (len(paths), stored, channels), fill)


def load_voxels(root: Path, stored: int, seed: int) -> Splits:
    """Clouds drawn in the surface voxels of ModelNet10, from an archive of voxel grids of one bit a voxel.

    The archive holds `x_train`, `x_test` (bits of grids, packed), `y_train`, `y_test`, `dim` (voxels along an axis) and
    `classes`. A point lies anywhere in a voxel of the surface: one that is full and has an empty one beside it.

    Raises:
        DataError: the archive is missing or damaged.
    """
    path = next(iter(sorted(root.glob("*voxels*.npz"))), root / "voxels.npz") if root.is_dir() else root
    try:
        with np.load(path, allow_pickle=False) as archive:
            side, classes = int(archive["dim"]), tuple(str(name) for name in archive["classes"])
            raw = {split: (archive[f"x_{split}"], archive[f"y_{split}"].astype(np.int64)) for split in _SPLITS}
    except FileNotFoundError:
        raise DataError(f"data.root: no archive {path}: give the .npz file of voxel grids, or its folder") from None
    except (OSError, ValueError, KeyError, BadZipFile) as problem:
        raise DataError(f"{path} is no archive of voxel grids: {' '.join(str(problem).split())}") from None
    parts = []
    for which, split in enumerate(_SPLITS):
        bits, labels = raw[split]
        points = np.empty((len(labels), stored, 3), np.float32)
        for i in range(len(labels)):
            grid = np.unpackbits(bits[i], count=side**3).reshape(side, side, side).astype(bool)
            points[i] = _in_voxels(grid, stored, np.random.default_rng([seed, which, i]), f"{path}, {split} shape {i}")
        parts.append(CloudSet(points, labels, str(path)))
    return Splits(
        parts[0],
        parts[1],
        classes,
        f"{path.stem}, {len(classes)} classes of voxel grids, {stored} points drawn in each",
    )


def _in_voxels(grid: NDArray[np.bool_], count: int, rng: np.random.Generator, name: str) -> NDArray[np.float32]:
    places = np.argwhere(surface_voxels(grid))
    if len(places) == 0:
        raise DataError(f"{name}: the voxel grid is empty: remove the shape")
    drawn = places[rng.choice(len(places), count, replace=True)] + rng.random((count, 3))
    return unit_sphere(drawn)


def surface_voxels(grid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which full voxels have an empty one, or the border, beside one of their six faces."""
    wide = np.pad(grid, 1)
    core = tuple(slice(1, -1) for _ in range(3))
    inside = np.ones_like(grid)
    for axis in range(3):
        for step in (slice(None, -2), slice(2, None)):
            inside &= wide[tuple(step if i == axis else core[i] for i in range(3))]
    return grid & ~inside

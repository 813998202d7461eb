"""ShapeNet parts: clouds of 16 categories, each point with its part, as text files or as PyG's `raw` folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnapps.errors import DataError, nearest
from bnnapps.plugins.pointclouds.cache import cached_array, files_key
from bnnapps.plugins.pointclouds.sets import CloudSet, Splits, check_finite, unit_sphere

CATEGORIES = {
    "Airplane": ("02691156", 4), "Bag": ("02773838", 2), "Cap": ("02954340", 2), "Car": ("02958343", 4),
    "Chair": ("03001627", 4), "Earphone": ("03261776", 3), "Guitar": ("03467517", 3), "Knife": ("03624134", 2),
    "Lamp": ("03636649", 4), "Laptop": ("03642806", 2), "Motorbike": ("03790512", 6), "Mug": ("03797390", 2),
    "Pistol": ("03948459", 3), "Rocket": ("04099429", 3), "Skateboard": ("04225987", 3), "Table": ("04379243", 3),
}  # fmt: skip
"""Each category with its folder and its number of parts; labels in the files count the parts of all, in this order."""
_ENDS = np.cumsum([0, *(parts for _, parts in CATEGORIES.values())])
_LISTS = "train_test_split"


def load_shapenet(root: Path, cache: Path, stored: int, seed: int, category: str | None, normals: bool) -> Splits:
    """ShapeNet parts (Yi et al., 2016): training and validation lists train, the test list is the dev set.

    A line of a file is `x y z nx ny nz part`. Each cloud is brought to `stored` points in random order: some of
    them, or all and some a second time. What was read is kept in the folder `cache`.

    Raises:
        DataError: a folder, list or file is missing or malformed, or there is no such category.
    """
    root = next((p for p in (root, root / "raw") if (p / _LISTS).is_dir()), root)
    if category is not None and category not in CATEGORIES:
        raise DataError(f"data.category is '{category}'; the nearest are {nearest(category, CATEGORIES)}")
    wanted = tuple(CATEGORIES) if category is None else (category,)
    numbers = {name: list(CATEGORIES).index(name) for name in wanted}
    spans = [tuple(range(int(_ENDS[n]), int(_ENDS[n + 1]))) for n in numbers.values()]
    classes = tuple(f"{name} {i + 1}" for name in wanted for i in range(CATEGORIES[name][1]))
    first = spans[0][0]
    parts = []
    for splits in (("train", "val"), ("test",)):
        files = [pair for split in splits for pair in _listed(root, split, wanted)]
        if not files:
            raise DataError(f"{root / _LISTS}: no file of {' and '.join(wanted[:3])} in the list {splits[0]}")
        read = _read([path for path, _ in files], cache, stored, seed)
        labels = read[..., 6].astype(np.int64)
        for (path, kind), each in zip(files, labels, strict=True):
            if each.min() < spans[kind][0] or each.max() > spans[kind][-1]:
                raise DataError(
                    f"{path}: a part lies outside {spans[kind][0]} to {spans[kind][-1]}, those of its category"
                )
        kinds = np.array([kind for _, kind in files], dtype=np.int64)
        points = np.array(read[..., : 6 if normals else 3])
        parts.append(CloudSet(points, labels - first, str(root), categories=kinds))
    own = tuple(tuple(part - first for part in span) for span in spans)
    return Splits(parts[0], parts[1], classes, f"ShapeNet parts, {len(wanted)} categories", wanted, own)


def _listed(root: Path, split: str, wanted: tuple[str, ...]) -> list[tuple[Path, int]]:
    path = root / _LISTS / f"shuffled_{split}_file_list.json"
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no list {path}: data.root must have '{_LISTS}' and a folder for each category") from None
    except (OSError, ValueError) as problem:
        raise DataError(f"{path} cannot be read as JSON: {problem}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) and name.count("/") >= 1 for name in names):
        raise DataError(f"{path}: expected a list of 'shape_data/CATEGORY/NAME'")
    folders = {CATEGORIES[name][0]: i for i, name in enumerate(wanted)}
    found = []
    for name in names:
        folder, file = name.split("/")[-2:]
        if folder in folders:
            found.append((root / folder / f"{file}.txt", folders[folder]))
    return found


def _read(files: list[Path], cache: Path, stored: int, seed: int) -> NDArray[np.float32]:
    def fill(target: NDArray[np.float32]) -> None:
        for i, path in enumerate(files):
            try:
                rows = np.loadtxt(path, dtype=np.float32, ndmin=2)
            except (OSError, ValueError) as problem:
                raise DataError(f"{path} cannot be read: {' '.join(str(problem).split())}") from None
            if rows.ndim != 2 or rows.shape[1] != 7 or len(rows) == 0:
                raise DataError(f"{path}: has shape {rows.shape}; expected lines of 7 numbers: x y z nx ny nz part")
            check_finite(rows, str(path))
            order = np.random.default_rng([seed, i]).permutation(len(rows))
            target[i] = unit_sphere(rows[np.resize(order, stored)])

    return cached_array(cache, f"shapenet-{files_key(files, stored=stored, seed=seed)}", (len(files), stored, 7), fill)

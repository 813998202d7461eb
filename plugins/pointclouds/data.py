"""The clouds that a recipe asks for, from embedded sources or from files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from bnnapps.errors import DataError, nearest
from bnnapps.plugins.pointclouds.cache import FOLDER
from bnnapps.plugins.pointclouds.data_config import EMBEDDED, CloudData
from bnnapps.plugins.pointclouds.hdf5 import load_modelnet_hdf5, load_s3dis
from bnnapps.plugins.pointclouds.modelnet import load_modelnet, load_voxels
from bnnapps.plugins.pointclouds.rooms import COUNTS as ROOMS
from bnnapps.plugins.pointclouds.rooms import load_rooms
from bnnapps.plugins.pointclouds.sets import CloudSet, Splits, drawn
from bnnapps.plugins.pointclouds.shapenet import load_shapenet
from bnnapps.plugins.pointclouds.shapes import COUNTS as SHAPES
from bnnapps.plugins.pointclouds.shapes import load_shapes

_WANTED = {
    "modelnet": "the folder with CLASS/train/*.off and CLASS/test/*.off",
    "modelnet_hdf5": "the folder with train_files.txt, test_files.txt and shape_names.txt",
    "modelnet_voxels": "the .npz file of voxel grids",
    "shapenet": "the folder with train_test_split and one folder for each category",
    "s3dis": "the folder with all_files.txt and room_filelist.txt",
}


def prepare_clouds(settings: CloudData, seed: int) -> Splits:
    """The clouds that a recipe asks for.

    `CloudSet.at(index, count, rng)` of each part gives (count, C) float32 points and a class, or a class a point.
    `train_size` and `dev_size` draw with the recipe's seed.

    Raises:
        DataError, MissingExtraError: with one clear line that names the file or the key.
    """
    if settings.source not in EMBEDDED and settings.root is None:
        raise DataError(f"data.source is '{settings.source}', so data.root must name {_WANTED[settings.source]}")
    splits = _read(settings)
    if settings.source == "shapes10" and settings.category is not None:
        splits = _only(splits, settings.category)
    train, dev = drawn(splits.train, settings.train_size, seed), drawn(splits.dev, settings.dev_size, seed)
    for name, part in (("training", train), ("dev", dev)):
        if len(part) == 0:
            raise DataError(f"{splits.description}: the {name} set is empty")
        if settings.points > part.stored and not settings.repeat:
            raise DataError(
                f"{part.origin}: the clouds of the {name} set have {part.stored} points, and data.points is "
                f"{settings.points}: set data.points to {part.stored} at most, or data.{_more(settings)}"
            )
    _check(train, settings.batch_size)
    train, dev = replace(train, repeat=settings.repeat), replace(dev, repeat=settings.repeat)
    return replace(splits, train=train, dev=dev)


def _more(settings: CloudData) -> str:
    """What gives clouds more points: drawing more, or taking some twice."""
    drawn_here = settings.source in ("modelnet", "modelnet_voxels")
    return f"stored to {settings.points}" if drawn_here else "repeat to true"


def _read(settings: CloudData) -> Splits:
    seed = settings.generator_seed
    if settings.source in EMBEDDED:
        counts = SHAPES if settings.source == "shapes10" else ROOMS
        train = counts["train"] if settings.train_size is None else settings.train_size
        dev = counts["dev"] if settings.dev_size is None else settings.dev_size
        if settings.source == "rooms":
            return load_rooms(train, dev, seed)
        return load_shapes(train, dev, seed, settings.wanted == "parts", settings.normals)
    assert settings.root is not None
    root = Path(settings.root).expanduser()
    cache = (root if root.is_dir() else root.parent) / FOLDER
    if settings.cache is not None:
        cache = Path(settings.cache).expanduser()
    if settings.source == "modelnet":
        return load_modelnet(root, cache, settings.stored, seed, settings.normals)
    if settings.source == "modelnet_hdf5":
        return load_modelnet_hdf5(root, settings.normals)
    if settings.source == "modelnet_voxels":
        return load_voxels(root, settings.stored, seed)
    if settings.source == "shapenet":
        return load_shapenet(root, cache, settings.stored, seed, settings.category, settings.normals)
    return load_s3dis(root, cache, settings.test_area)


def _only(splits: Splits, category: str) -> Splits:
    """The clouds of one category, whose parts count from 0."""
    if category not in splits.categories:
        raise DataError(f"data.category is '{category}'; the nearest are {nearest(category, splits.categories)}")
    number = splits.categories.index(category)
    first, count = splits.parts[number][0], len(splits.parts[number])

    def chosen(part: CloudSet) -> CloudSet:
        assert part.categories is not None
        found = part.take(np.flatnonzero(part.categories == number).tolist())
        return replace(found, labels=found.labels - first, categories=np.zeros(len(found), dtype=np.int64))

    classes, parts = splits.classes[first : first + count], (tuple(range(count)),)
    described = f"{splits.description}, only {category}"
    return Splits(chosen(splits.train), chosen(splits.dev), classes, described, (category,), parts)


def _check(train: CloudSet, batch_size: int) -> None:
    """BatchNorm behind the aggregation needs two clouds in each batch."""
    count = len(train)
    if count < 2 or batch_size < 2:
        raise DataError(
            f"{count} training clouds in batches of {batch_size}: BatchNorm needs two in a batch; give more data, or "
            "raise data.batch_size"
        )
    if count % batch_size == 1:
        better = batch_size + 1 if count % (batch_size + 1) != 1 else batch_size - 1
        raise DataError(
            f"{count} training clouds in batches of {batch_size} leave a last batch of one cloud: set data.batch_size "
            f"to {better}, or change data.train_size"
        )

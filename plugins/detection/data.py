"""The images and boxes of a recipe: read, checked and drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from bnnapps.errors import DataError
from bnnapps.plugins.detection.boxes import box_areas
from bnnapps.plugins.detection.coco import coco_rows, read_coco
from bnnapps.plugins.detection.data_config import DetectionData
from bnnapps.plugins.detection.files import kept
from bnnapps.plugins.detection.sets import (
    Annotated,
    ArrayDetections,
    BoxCounts,
    DetectionSet,
    FileDetections,
    Objects,
    Prepared,
)
from bnnapps.plugins.detection.voc import read_voc, voc_classes, voc_rows
from bnnapps.plugins.imagery.images import BrokenImageError, broken_message
from bnnapps.plugins.imagery.scenes import CLASSES, SCALE, Scene, digit_scenes
from bnnapps.plugins.imagery.voc_tree import scene_tree

Rows = list[Annotated]
SCENES = {"train": 800, "dev": 200}
"""Scenes that are composed where the recipe gives no number."""


def prepare_detection(settings: DetectionData, seed: int) -> Prepared:
    """The images and boxes that a recipe asks for.

    `train_size` and `dev_size` draw with the recipe's seed. No image file is decoded yet, unless `cache` is true;
    every annotation is read and checked.

    Raises:
        DataError, MissingExtraError: with one clear line that names the file.
    """
    in_memory = settings.source == "digit_scenes" and settings.root is None
    found = _scenes(settings) if in_memory else _files(settings, seed)
    for name, part, counts in (("training", found.train, found.train_counts), ("dev", found.dev, found.dev_counts)):
        if counts.boxes == 0:
            raise DataError(f"{found.description}: the {name} set has {len(part)} images and no object in any of them")
    if len(found.train) < 2:
        raise DataError("there is only one training image: give more data, or raise data.train_size")
    return found


def _parts(settings: DetectionData) -> dict[str, list[Scene]]:
    more = (
        settings.scene_size,
        settings.scene_digits,
        settings.generator_seed,
        settings.scene_backgrounds,
        (settings.scene_scale[0], settings.scene_scale[1]),
    )
    counts = _scene_counts(settings)
    return {"train": digit_scenes("train", counts["train"], *more), "val": digit_scenes("dev", counts["dev"], *more)}


def _scene_counts(settings: DetectionData) -> dict[str, int]:
    sizes = {"train": settings.train_size, "dev": settings.dev_size}
    return {part: SCENES[part] if size is None else size for part, size in sizes.items()}


def _scene_text(settings: DetectionData) -> str:
    ground = "generated textures" if settings.scene_backgrounds == "generated" else "photographs of scikit-image"
    return f"digit scenes: real handwritten digits composed on {ground} (generated)"


def _scenes(settings: DetectionData) -> Prepared:
    parts = _parts(settings)
    train, dev = _composed("training scene", parts["train"]), _composed("dev scene", parts["val"])
    return Prepared(train, dev, CLASSES, _scene_text(settings), _boxes(train), _boxes(dev))


def _written_scenes(settings: DetectionData, root: Path, broken: dict[Path, str]) -> tuple[Rows, Rows, Sequence[str]]:
    facts: dict[str, Any] = {
        "size": settings.scene_size,
        "most_digits": settings.scene_digits,
        "seed": settings.generator_seed,
    }
    facts |= _scene_counts(settings)
    if settings.scene_scale != list(SCALE):  # trees that were written before there was a choice stay valid
        facts["scale"] = settings.scene_scale
    scene_tree(root, facts | {"backgrounds": settings.scene_backgrounds}, lambda: _parts(settings), CLASSES)
    return _voc(settings.model_copy(update={"classes": list(CLASSES)}), root, broken)


def _composed(name: str, scenes: Sequence[Scene]) -> ArrayDetections:
    objects = []
    for number, scene in enumerate(scenes):
        none = torch.zeros(len(scene.labels), dtype=torch.bool).numpy()
        objects.append(Objects(scene.boxes, scene.labels, none, none, box_areas(scene.boxes), number))
    return ArrayDetections([s.image for s in scenes], objects, [f"{name} {i}" for i in range(len(scenes))])


def _boxes(part: DetectionSet) -> BoxCounts:
    return BoxCounts(boxes=sum(len(part.target(i)) for i in range(len(part))))


def _files(settings: DetectionData, seed: int) -> Prepared:
    assert settings.root is not None
    root = Path(settings.root).expanduser()
    broken: dict[Path, str] = {}
    read = {"voc": _voc, "coco": _coco, "digit_scenes": _written_scenes}[settings.source]
    train, dev, classes = read(settings, root, broken)
    notes = _overlap(train, dev)
    if settings.drop_empty:
        train = [row for row in train if _seen_in_training(row.objects, settings.keep_difficult)]
    for name, rows in (("training", train), ("dev", dev)):
        if not rows:
            raise DataError(f"{root}: the {name} set is empty: none of its images can be used")
    train, dev = _drawn(train, settings.train_size, seed), _drawn(dev, settings.dev_size, seed)
    notes += [*_unseen(train, dev, classes), *_kinds([*train, *dev])]
    parts: list[DetectionSet] = [FileDetections(train), FileDetections(dev)]
    if settings.cache:
        parts = [_cached(rows, settings.skip_broken, broken) for rows in (train, dev)]
    counts = [sum((row.counts for row in rows), BoxCounts()) for rows in (train, dev)]
    layout = "COCO" if settings.source == "coco" else "VOC"
    where = root.parent.name if root.name.lower() == "voc" else root.name
    description = f"{where} (real images, {layout} layout)"
    if settings.source == "digit_scenes":
        description = _scene_text(settings)
    return Prepared(parts[0], parts[1], tuple(classes), description, counts[0], counts[1], tuple(notes), broken)


def _voc(settings: DetectionData, root: Path, broken: dict[Path, str]) -> tuple[Rows, Rows, Sequence[str]]:
    train = read_voc(root, ["train"] if settings.train_splits is None else settings.train_splits)
    dev = read_voc(root, ["val"] if settings.dev_splits is None else settings.dev_splits)
    classes = voc_classes([*train, *dev]) if settings.classes is None else settings.classes
    parts = [kept(voc_rows(files, classes), settings.skip_broken, broken) for files in (train, dev)]
    return parts[0], parts[1], classes


def _coco(settings: DetectionData, root: Path, broken: dict[Path, str]) -> tuple[Rows, Rows, Sequence[str]]:
    splits = (
        ["train2017"] if settings.train_splits is None else settings.train_splits,
        ["val2017"] if settings.dev_splits is None else settings.dev_splits,
    )
    files = [[read_coco(root, split) for split in each] for each in splits]
    classes = files[0][0].names if settings.classes is None else settings.classes
    parts: list[Rows] = []
    for each in files:
        rows: Rows = []
        for file in each:
            rows += kept(coco_rows(file, classes, len(rows)), settings.skip_broken, broken)
        parts.append(rows)
    return parts[0], parts[1], classes


def _seen_in_training(objects: Objects, keep_difficult: bool) -> bool:
    return bool((~objects.crowd & (keep_difficult | ~objects.difficult)).any())


def _drawn(rows: Rows, size: int | None, seed: int) -> Rows:
    """`size` images drawn with the seed, in the order of the data; all of them where there are not more."""
    if size is None or size >= len(rows):
        return rows
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:size]
    return [rows[i] for i in chosen.sort().values.tolist()]


def _overlap(train: Rows, dev: Rows) -> list[str]:
    both = {row.path for row in train} & {row.path for row in dev}
    if not both:
        return []
    return [f"{len(both)} images are in both sets, {min(both)} among them: the metrics say too much"]


def _unseen(train: Rows, dev: Rows, classes: Sequence[str]) -> list[str]:
    seen, asked = ({int(label) for row in rows for label in row.objects.labels} for rows in (train, dev))
    lacking = [classes[label - 1] for label in sorted(asked - seen)]
    if not lacking:
        return []
    return [f"the dev set has objects of classes that no training image has: {', '.join(lacking[:8])}"]


def _kinds(rows: Iterable[Annotated]) -> list[str]:
    """What is converted, with the first file of each kind."""
    counts: Counter[str] = Counter()
    first: dict[str, Path] = {}
    for row in rows:
        kinds = ["more than 8 bits a channel"] if row.deep else []
        kinds += ["CMYK"] if row.mode == "CMYK" else []
        for kind in kinds:
            counts[kind] += 1
            first.setdefault(kind, row.path)
    return [f"images of {kind}, converted to 8-bit RGB: {n}, {first[kind]} first" for kind, n in counts.items()]


def _cached(rows: Rows, skip_broken: bool, broken: dict[Path, str]) -> ArrayDetections:
    """Every image decoded; those that cannot be are noted in `broken`, or the first of them is an error."""
    part = FileDetections(rows)
    images, chosen = [], []
    for index, row in enumerate(rows):
        try:
            images.append(part.image(index))
        except BrokenImageError as problem:
            if not skip_broken:
                raise DataError(broken_message(row.path, str(problem))) from None
            broken[row.path] = str(problem)
        else:
            chosen.append(row)
    if not images:
        raise DataError(f"none of the {len(rows)} images can be decoded, the first is {rows[0].path}")
    return ArrayDetections(images, [row.objects for row in chosen], [str(row.path) for row in chosen])

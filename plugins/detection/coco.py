"""Boxes in COCO's layout: one JSON file a split, images in a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnnapps.errors import DataError
from bnnapps.plugins.detection.boxes import Written
from bnnapps.plugins.detection.files import Broken, annotated, class_number
from bnnapps.plugins.detection.sets import Annotated
from bnnapps.plugins.imagery.paths import inside


@dataclass(frozen=True)
class CocoFile:
    """An annotation file that was read.

    Attributes:
        path: of the file.
        images: id, path, and size where one is given, of each image.
        objects: by image id; the label of each is 0, its class beside it.
        names: of the categories, in the order of their ids.
    """

    path: Path
    images: Sequence[tuple[int, Path, tuple[int, int] | None]]
    objects: dict[int, list[tuple[str, Written, int]]]
    names: tuple[str, ...]


def read_coco(root: Path, split: str) -> CocoFile:
    """The annotations of a split.

    An image without an annotation is one without objects, as COCO has many.

    Args:
        root: of the data.
        split: NAME for annotations/instances_NAME.json and images in NAME, images/NAME or images; or FILE.json:FOLDER.

    Raises:
        DataError: a file is missing, malformed or empty, an annotation is for an image or a category that the file does
            not have, or a name leads out of its folder.

    """
    path, folder = _locate(root, split)
    content = _read_json(path)
    names = _categories(content["categories"], path)
    images = _images(content["images"], folder, path)
    if not images:
        raise DataError(f"{path} has no image: the split '{split}' is empty")
    objects: dict[int, list[tuple[str, Written, int]]] = {number: [] for number, _, _ in images}
    for at, entry in enumerate(content["annotations"]):
        _take_annotation(entry, f"{path}: annotation {at}", objects, names)
    return CocoFile(path, images, objects, tuple(names[number] for number in sorted(names)))


def coco_rows(file: CocoFile, classes: Sequence[str], first: int = 0) -> list[Annotated | Broken]:
    """The images with their objects, labels by the place of their class in the list, from 1 on.

    Args:
        file: what was read.
        classes: names of the labels.
        first: number of the first image; the next ones follow.

    Raises:
        DataError: a class that is not in the list; an image of another size than the file says.

    """
    rows = []
    for number, (image, path, size) in enumerate(file.images, first):
        written = [
            w._replace(label=class_number(name, classes, f"{file.path}: annotation {at}"))
            for name, w, at in file.objects[image]
        ]
        rows.append(annotated(path, written, size, f"{file.path}: image {image}", number))
    return rows


def _locate(root: Path, split: str) -> tuple[Path, Path]:
    where = f"the split '{split}'"
    if not root.is_dir():
        raise DataError(f"no data folder {root}: expected annotations/instances_SPLIT.json in it")
    file, colon, folder = split.partition(":")
    if colon:
        path, images = inside(root, file, where), inside(root, folder, where)
        if not images.is_dir():
            raise DataError(f"no folder {images} with the images of {where}")
    else:
        path = inside(root, f"annotations/instances_{split}.json", where)
        places = [inside(root, split, where), inside(root / "images", split, where), root / "images"]
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            raise DataError(f"no folder {places[0]} with the images of {where}")
        images = found
    if not path.is_file():
        there = sorted(p.name for p in (root / "annotations").glob("*.json"))
        known = f"there are {', '.join(there[:8])} in annotations" if there else "the root has no annotations/*.json"
        raise DataError(
            f"no file {path}: {known}; name a split, or FILE.json:FOLDER, in data.train_splits and dev_splits"
        )
    return path, images


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}") from None
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{path} is no well-formed JSON: {problem}") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path} has no list '{key}': expected COCO's images, annotations and categories")
        wrong = next((at for at, entry in enumerate(content[key]) if not isinstance(entry, dict)), None)
        if wrong is not None:
            raise DataError(f"{path}: {key}[{wrong}] is no mapping")
    assert isinstance(content, dict)
    return content


def _categories(entries: list[dict[str, Any]], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for at, entry in enumerate(entries):
        number, name = _integer(entry, "id", f"{path}: categories[{at}]"), entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: categories[{at}] has no name")
        if number in names or name.strip() in names.values():
            raise DataError(f"{path} has the category {number} ('{name.strip()}') twice")
        names[number] = name.strip()
    return names


def _images(entries: list[dict[str, Any]], folder: Path, path: Path) -> list[tuple[int, Path, tuple[int, int] | None]]:
    found = []
    seen: set[int] = set()
    for at, entry in enumerate(entries):
        where = f"{path}: images[{at}]"
        number, name = _integer(entry, "id", where), entry.get("file_name")
        if number in seen:
            raise DataError(f"{where} has the id {number} of an earlier image")
        seen.add(number)
        if not isinstance(name, str):
            raise DataError(f"{where} has no file_name")
        image = inside(folder, name, where)
        if not image.is_file():
            raise DataError(f"{where} has no image: there is no {image}")
        sides = [entry.get(key) for key in ("width", "height")]
        given = all(isinstance(side, int) and side > 0 for side in sides)
        found.append((number, image, (int(sides[0] or 0), int(sides[1] or 0)) if given else None))
    return found


def _take_annotation(
    entry: dict[str, Any], where: str, objects: dict[int, list[tuple[str, Written, int]]], names: dict[int, str]
) -> None:
    image, category = _integer(entry, "image_id", where), _integer(entry, "category_id", where)
    if image not in objects:
        raise DataError(f"{where} is for the image {image}, which the file does not have")
    if category not in names:
        raise DataError(f"{where} is of the category {category}, which the file does not have")
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        raise DataError(f"{where} has bbox = {str(box)[:60]}; expected four numbers: x, y, width, height")
    x, y, width, height = (float(v) for v in box)
    area = entry.get("area")
    written = Written(
        (x, y, x + width, y + height),
        0,
        degenerate=width <= 0 or height <= 0,
        difficult=bool(entry.get("ignore", 0)) and not entry.get("iscrowd", 0),
        crowd=bool(entry.get("iscrowd", 0)),
        area=float(area) if area is not None and _is_number(area) and area > 0 else None,
    )
    objects[image].append((names[category], written, int(where.rpartition(" ")[2])))


def _integer(entry: dict[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{where} has {key} = {str(value)[:40]!r}; expected a whole number")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e9

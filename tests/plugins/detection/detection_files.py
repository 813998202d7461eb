"""Small sets of images with boxes on disk, in the layouts that people have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Box = tuple[str, tuple[float, float, float, float]]


def picture(path: Path, width: int = 60, height: int = 40, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def annotation(name: str, objects: list[Box], size: tuple[int, int] | None = (60, 40), difficult: tuple[int, ...] = ()):
    text = f"<annotation>\n<folder>JPEGImages</folder><filename>{name}.jpg</filename>\n"
    if size is not None:
        text += f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>\n"
    for i, (label, box) in enumerate(objects):
        sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        flag = f"<difficult>{int(i in difficult)}</difficult>"
        text += f"<object><name>{label}</name>{flag}<bndbox>{sides}</bndbox></object>\n"
    return text + "</annotation>\n"


CAT, DOG = ("cat", (1, 1, 20, 10)), ("dog", (31, 11, 60, 40))


def write_voc(base: Path, lists: dict[str, dict[str, list[Box]]] | None = None, **more: Any) -> Path:
    """VOC's layout below `base`: of each list, the objects of each image."""
    if lists is None:
        lists = {"train": {"a": [CAT], "b": [DOG, CAT], "c": [DOG]}, "val": {"d": [CAT, DOG], "e": [DOG]}}
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for split, images in lists.items():
        for i, (name, objects) in enumerate(images.items()):
            picture(base / "JPEGImages" / f"{name}.jpg", seed=i)
            (base / "Annotations" / f"{name}.xml").write_text(annotation(name, objects, **more))
        (base / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))
    return base


def coco_content(count: int = 3, first: int = 1, suffix: str = ".jpg") -> dict[str, Any]:
    images = [
        {"id": first + i, "file_name": f"{first + i:03d}{suffix}", "width": 60, "height": 40} for i in range(count)
    ]
    annotations = [
        {"id": i, "image_id": image["id"], "category_id": 3 if i % 2 else 17, "bbox": [5 + i, 4, 20, 10], "area": 150.5}
        for i, image in enumerate(images)
    ]
    categories = [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root: Path, **contents: dict[str, Any]) -> Path:
    """COCO's layout: annotations/instances_SPLIT.json and SPLIT/*.jpg."""
    if not contents:
        contents = {"train2017": coco_content(3), "val2017": coco_content(2, 10)}
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split, content in contents.items():
        (root / split).mkdir(exist_ok=True)
        for i, image in enumerate(content["images"]):
            if "/" not in image["file_name"]:
                picture(root / split / image["file_name"], seed=i)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root

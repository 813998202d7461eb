"""Scenes written to disk as Pascal VOC's folder tree, with boxes and class masks."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from bnnapps.errors import DataError
from bnnapps.plugins.imagery.scenes import Scene

QUALITY = 95
FACTS = "scenes.json"
"""Beside the tree: what its scenes were made from."""


def write_voc_tree(root: Path, parts: Mapping[str, Sequence[Scene]], classes: Sequence[str]) -> None:
    """Write JPEGImages, Annotations, SegmentationClass, ImageSets/Main and ImageSets/Segmentation below `root`.

    Images are numbered from 000001 on through all parts. Boxes are written as VOC's: whole pixels, from 1 on, the last
    one included. Masks are palette PNGs in VOC's colours, whose numbers are the labels, 255 what is left out.

    Args:
        root: is made where it is not there.
        parts: scenes of each list by name, such as train and val.
        classes: names of the labels 1 to C.

    """
    from PIL import Image

    folders = {name: root / name for name in ("JPEGImages", "Annotations", "SegmentationClass")}
    lists = [root / "ImageSets" / name for name in ("Main", "Segmentation")]
    for folder in (*folders.values(), *lists):
        folder.mkdir(parents=True, exist_ok=True)
    palette = voc_palette().flatten().tolist()
    number = 0
    for part, scenes in parts.items():
        names = []
        for scene in scenes:
            number += 1
            name = f"{number:06d}"
            names.append(name)
            jpeg = folders["JPEGImages"] / f"{name}.jpg"
            Image.fromarray(scene.image).save(jpeg, quality=QUALITY, subsampling=0)
            mask = Image.fromarray(scene.mask, mode="P")
            mask.putpalette(palette)
            mask.save(folders["SegmentationClass"] / f"{name}.png", optimize=True)
            text = _annotation(name, scene, classes)
            (folders["Annotations"] / f"{name}.xml").write_text(text, encoding="utf-8")
        for folder in lists:
            (folder / f"{part}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def scene_tree(
    root: Path, facts: Mapping[str, Any], compose: Callable[[], Mapping[str, Sequence[Scene]]], classes: Sequence[str]
) -> None:
    """Write a tree at `root`, unless the same one is there already.

    It is written beside its place and then renamed, so that a run that is killed leaves no half of it.

    Args:
        root: a new or empty folder, or one that an earlier call wrote.
        facts: what the scenes follow from, such as sizes and seed.
        compose: makes the parts.
        classes: names of the labels 1 to C.

    Raises:
        DataError: the folder holds something else, or scenes of other facts, or cannot be written.

    """
    text = json.dumps(dict(facts), indent=2, sort_keys=True) + "\n"
    try:
        if _is_there(root, text):
            return
        root.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        try:
            write_voc_tree(partial, compose(), classes)
            (partial / FACTS).write_text(text, encoding="utf-8")
            partial.chmod(0o755)
            try:
                partial.replace(root)
            except OSError:
                if not _is_there(root, text):  # another process may have been first
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as problem:
        raise DataError(f"the digit scenes cannot be written to {root}: {problem.strerror}") from None


def _is_there(root: Path, text: str) -> bool:
    if not (root.is_dir() and any(root.iterdir())):
        return False
    there = root / FACTS
    if not there.is_file():
        raise DataError(f"{root} is not empty and holds no digit scenes: name a new folder for them")
    if there.read_text(encoding="utf-8") != text:
        raise DataError(f"{root} holds digit scenes of other settings (see {FACTS} there): delete it, or name another")
    return True


def voc_palette() -> NDArray[np.uint8]:
    """VOC's 256 colours, uint8 (256, 3): bits 0, 3, 6 of a number are the highest bits of red, 1, 4, 7 of green, ..."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        colours[:, bit % 3] |= (numbers >> bit & 1) << (7 - bit // 3)
    return colours.astype(np.uint8)


def _annotation(name: str, scene: Scene, classes: Sequence[str]) -> str:
    height, width = scene.mask.shape
    objects = "".join(
        f"\t<object>\n\t\t<name>{escape(classes[int(label) - 1])}</name>\n\t\t<pose>Unspecified</pose>\n"
        "\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n"
        f"\t\t\t<xmin>{round(box[0]) + 1}</xmin>\n\t\t\t<ymin>{round(box[1]) + 1}</ymin>\n"
        f"\t\t\t<xmax>{round(box[2])}</xmax>\n\t\t\t<ymax>{round(box[3])}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for box, label in zip(scene.boxes.tolist(), scene.labels, strict=True)
    )
    return (
        f"<annotation>\n\t<folder>JPEGImages</folder>\n\t<filename>{name}.jpg</filename>\n\t<source>\n"
        "\t\t<database>digit_scenes (generated)</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>1</segmented>\n{objects}</annotation>\n"
    )

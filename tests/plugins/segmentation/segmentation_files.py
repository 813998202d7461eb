"""Small trees of images and masks in the layouts of the public sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bnnapps.plugins.imagery.voc_tree import voc_palette


def image_of(number: int, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask_of(number: int, classes: list[int], height: int = 24, width: int = 32) -> np.ndarray:
    chosen = np.random.default_rng(100 + number).integers(0, len(classes), (height, width))
    return np.array(classes, np.uint8)[chosen]


def save_image(path: Path, number: int, **size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_of(number, **size)).save(path)


def save_mask(path: Path, mask: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(mask)
    if palette:
        picture = picture.convert("P")
        picture = Image.frombytes("P", picture.size, mask.tobytes())
        picture.putpalette(voc_palette().flatten().tolist())
    picture.save(path)


def write_camvid(root: Path, train: int = 4, test: int = 2) -> Path:
    for name, count, offset in (("train", train, 0), ("val", 2, 50), ("test", test, 80)):
        lines = []
        for i in range(count):
            stem = f"0001TP_{offset + i:06d}.png"
            save_image(root / name / stem, offset + i)
            save_mask(root / f"{name}annot" / stem, mask_of(offset + i, [*range(12)]))
            lines.append(f"{name}/{stem} {name}annot/{stem}")
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def write_cityscapes(root: Path) -> Path:
    for split, city, count in (("train", "aachen", 2), ("train", "bochum", 2), ("val", "munster", 2)):
        for i in range(count):
            stem = f"{city}_{i:06d}_000019"
            save_image(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", i)
            mask = mask_of(i, [0, 7, 8, 26, 33, 255])
            save_mask(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", mask)
    return root


def write_voc(root: Path, train: int = 3, val: int = 2) -> Path:
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, count in (("train", train), ("val", val)):
        stems = [f"2007_{name}_{i:06d}" for i in range(count)]
        for i, stem in enumerate(stems):
            size = {"height": 24 + 2 * i, "width": 32}
            save_image(root / "JPEGImages" / f"{stem}.jpg", i, **size)
            save_mask(root / "SegmentationClass" / f"{stem}.png", mask_of(i, [0, 5, 20, 255], **size), palette=True)
        (lists / f"{name}.txt").write_text("\n".join(stems) + "\n")
    return root


def write_sbd(root: Path, stems: list[str], split: str = "train") -> Path:
    from scipy.io import savemat

    for name in ("train", "val"):
        (root / "dataset").mkdir(parents=True, exist_ok=True)
        chosen = stems if name == split else ["2008_000999"]
        (root / "dataset" / f"{name}.txt").write_text("\n".join(chosen) + "\n")
        for i, stem in enumerate(chosen):
            save_image(root / "dataset" / "img" / f"{stem}.jpg", i)
            path = root / "dataset" / "cls" / f"{stem}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            savemat(str(path), {"GTcls": {"Segmentation": mask_of(i, [0, 3, 255])}})
    return root

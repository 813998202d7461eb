"""What a recipe may say about the images and boxes of a detector."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bnnapps.plugins.imagery.scenes import SCALE
from bnnapps.validation import Record

Source = Literal["digit_scenes", "voc", "coco"]
Resize = Literal["stretch", "letterbox", "shorter"]
Augment = Literal["none", "flip", "ssd"]
Backgrounds = Literal["generated", "photographs"]
Share = Annotated[float, Field(ge=0.1, le=0.7)]


class DetectionData(Record):
    """Which images and boxes, and how they are batched, sized and changed in training."""

    source: Source = "digit_scenes"
    """`digit_scenes`: real handwriting composed on textures; `voc`, `coco`: a folder in that layout at `root`."""
    root: str | None = None
    """`voc`: has JPEGImages, Annotations and ImageSets/Main, or folders that have them (VOC2007, VOC2012);
    `coco`: has annotations/instances_SPLIT.json and SPLIT/*.jpg; `digit_scenes`: where they are to be written, once, as
    a VOC tree (with class masks) that is then read; by default they are only held in memory."""
    train_splits: list[str] | None = Field(default=None, min_length=1)
    """`voc`: lists below ImageSets/Main, such as [train] or [VOC2007/trainval, VOC2012/trainval]; by default [train].
    `coco`: such as [train2017], or FILE.json:FOLDER below the root; by default [train2017]."""
    dev_splits: list[str] | None = Field(default=None, min_length=1)
    """Likewise for evaluation; by default [val], for `coco` [val2017]."""
    classes: list[str] | None = Field(default=None, min_length=1)
    """Names in the order of the labels, from 1 on; by default all that occur, sorted (`coco`: its categories)."""
    train_size: int | None = Field(default=None, ge=1)
    """Take only so many training images, drawn with the recipe's seed (`digit_scenes`: compose so many)."""
    dev_size: int | None = Field(default=None, ge=1)
    """Likewise for evaluation."""
    batch_size: int = Field(default=16, ge=1)
    eval_batch_size: int = Field(default=32, ge=1)
    size: int | None = Field(default=None, ge=16)
    """Side of what the detector sees; by default images stay as they are, and detectors that can size them do."""
    resize: Resize = "stretch"
    """How images come to `size`. `stretch`: both sides, as SSD; `letterbox`: the longer side, the rest filled;
    `shorter`: the shorter side, but no side beyond `max_size`, as Faster R-CNN (images then differ in size)."""
    max_size: int | None = Field(default=None, ge=16)
    """For `shorter`: the longest side; by default 5/3 of `size`, as 1000 for 600."""
    augment: Augment = "none"
    """`flip`: mirrored for every second image; `ssd`: colours, expansion, random crops by overlap, mirrored."""
    expand: float = Field(default=4.0, ge=1.0)
    """For `ssd`: the largest factor of the canvas that an image is placed on (zoom out)."""
    swap_channels: bool = False
    """For `ssd`: also exchange the colour channels for every second image, as the released code of BiDet does."""
    keep_difficult: bool = False
    """Whether training sees the objects that `voc` flags as difficult. In evaluation they count neither way."""
    drop_empty: bool = False
    """Whether training images without an object are left out."""
    workers: int = Field(default=0, ge=0)
    """Processes that decode and change images."""
    cache: bool = False
    """Decode each image once and keep it in memory (a megabyte for 640 x 480 pixels)."""
    skip_broken: bool = False
    """Go on without images that cannot be decoded; they are named and counted."""
    scene_size: int = Field(default=128, ge=48)
    """For `digit_scenes`: side of a scene in pixels."""
    scene_digits: int = Field(default=5, ge=1)
    """For `digit_scenes`: most digits in a scene; each has at least one."""
    scene_scale: list[Share] = Field(default=list(SCALE), min_length=2, max_length=2)
    """For `digit_scenes`: least and greatest side of a digit's frame as shares of the scene's side."""
    scene_backgrounds: Backgrounds = "generated"
    """For `digit_scenes`: `photographs` takes those of brick, grass and gravel that scikit-image ships."""
    generator_seed: int = Field(default=0, ge=0)
    """For `digit_scenes`."""

    @model_validator(mode="after")
    def _fits_together(self) -> DetectionData:
        if self.source == "digit_scenes":
            for key in ("train_splits", "dev_splits", "classes"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} is given, but source is 'digit_scenes', which has its own: drop {key}")
        elif self.root is None:
            raise ValueError(f"source is '{self.source}', so root must name a folder in that layout")
        if self.scene_scale[0] > self.scene_scale[1]:
            raise ValueError(f"scene_scale is {self.scene_scale}: give the least share first")
        if self.max_size is not None and (self.size is None or self.resize != "shorter"):
            raise ValueError("max_size belongs to resize 'shorter' beside a size: drop it, or set both")
        if self.max_size is not None and self.size is not None and self.max_size < self.size:
            raise ValueError(f"max_size is {self.max_size}, less than size, {self.size}")
        if self.augment != "ssd" and (self.swap_channels or self.expand != 4.0):
            raise ValueError(f"expand and swap_channels belong to augment 'ssd', and augment is '{self.augment}'")
        for key in ("cache", "skip_broken"):
            if getattr(self, key) and self.source == "digit_scenes" and self.root is None:
                raise ValueError(f"{key} is for images in files, and digit scenes without root are in memory: drop it")
        if self.workers and self.cache:
            raise ValueError("workers has no use when cache is true: drop one of them")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise ValueError(f"classes has '{twice}' twice")
        return self

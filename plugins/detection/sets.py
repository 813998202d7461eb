"""Images with boxes: in memory, or in files that are decoded when they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnapps.plugins.imagery.images import decode_rgb

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Objects:
    """The objects of an image.

    Attributes:
        boxes: float32 (n, 4), x1 y1 x2 y2 in pixels from the upper left corner of the image, x2 > x1, y2 > y1. A box
            around the single pixel of row 0, column 0 is (0, 0, 1, 1).
        labels: int64 (n,), 1 to C; 0 is the background.
        difficult: bool (n,), VOC's flag: neither found nor missed counts.
        crowd: bool (n,), COCO's flag: a region of many objects; neither found nor missed counts.
        area: float32 (n,), in pixels: of the segment where the annotation has one (COCO), else of the box.
        image_id: a number that is the image's own within its set.
    """

    boxes: Floats
    labels: Ints
    difficult: Flags
    crowd: Flags
    area: Floats
    image_id: int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, keep: Flags | Ints) -> Objects:
        """Some of the objects."""
        flags = (self.difficult[keep], self.crowd[keep])
        return Objects(self.boxes[keep], self.labels[keep], *flags, self.area[keep], self.image_id)


@dataclass(frozen=True)
class BoxCounts:
    """What became of the boxes of a set.

    Attributes:
        boxes: that are used.
        clipped: of these, reached beyond their image.
        zero_area: dropped, because they have no area.
        outside: dropped, because they lie beside their image.
    """

    boxes: int = 0
    clipped: int = 0
    zero_area: int = 0
    outside: int = 0

    def __add__(self, other: BoxCounts) -> BoxCounts:
        return BoxCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class DetectionSet(ABC):
    """A row of images with their objects."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def image(self, index: int) -> Pixels:
        """An image, uint8 (H, W, 3).

        Raises:
            BrokenImageError: its file cannot be decoded.
        """

    @abstractmethod
    def target(self, index: int) -> Objects:
        """Its objects."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What people know it by: the file, or the number of a scene."""

    @abstractmethod
    def take(self, indices: Sequence[int]) -> DetectionSet:
        """Some of the images."""


@dataclass(frozen=True)
class ArrayDetections(DetectionSet):
    """Images in memory.

    Attributes:
        images: uint8 (H, W, 3) each.
        objects: of each image.
        names: of each image.
    """

    images: Sequence[Pixels]
    objects: Sequence[Objects]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Pixels:
        """An image."""
        return self.images[index]

    def target(self, index: int) -> Objects:
        """Its objects."""
        return self.objects[index]

    def name(self, index: int) -> str:
        """What people know it by."""
        return self.names[index]

    def take(self, indices: Sequence[int]) -> ArrayDetections:
        """Some of the images."""
        images, objects, names = self.images, self.objects, self.names
        return ArrayDetections([images[i] for i in indices], [objects[i] for i in indices], [names[i] for i in indices])


@dataclass(frozen=True)
class Annotated:
    """An image file with its objects.

    Attributes:
        path: of the image.
        objects: within it.
        counts: what became of its boxes.
        oriented: whether the boxes belong to the image as its EXIF orientation turns it.
        deep: whether it has more than 8 bits a channel.
        mode: Pillow's name of its kind.
    """

    path: Path
    objects: Objects
    counts: BoxCounts
    oriented: bool = True
    deep: bool = False
    mode: str = "RGB"


@dataclass(frozen=True)
class FileDetections(DetectionSet):
    """Images in files, decoded when they are asked for."""

    rows: Sequence[Annotated]

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> Pixels:
        """An image, decoded."""
        row = self.rows[index]
        return decode_rgb(row.path, row.oriented)

    def target(self, index: int) -> Objects:
        """Its objects."""
        return self.rows[index].objects

    def name(self, index: int) -> str:
        """Its file."""
        return str(self.rows[index].path)

    def take(self, indices: Sequence[int]) -> FileDetections:
        """Some of the images."""
        return FileDetections([self.rows[i] for i in indices])


@dataclass(frozen=True)
class Prepared:
    """Everything about the data that training needs.

    Attributes:
        train, dev: the images.
        classes: names of the labels 1 to C; the background, 0, has none.
        description: for people; says whether the data is real or generated.
        train_counts, dev_counts: what became of the boxes.
        notes: one line each about what was unusual in the files, such as images of 16 bits.
        broken: files that could not be decoded, with the reason; grows in training.
    """

    train: DetectionSet
    dev: DetectionSet
    classes: tuple[str, ...]
    description: str
    train_counts: BoxCounts = BoxCounts()
    dev_counts: BoxCounts = BoxCounts()
    notes: tuple[str, ...] = ()
    broken: dict[Path, str] = field(default_factory=dict)

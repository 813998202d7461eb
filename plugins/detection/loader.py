"""Batches of images and boxes for training and evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.detection.augment import boxes_in, cropped, distorted, image_rng, zoomed_out
from bnnapps.plugins.detection.boxes import box_areas
from bnnapps.plugins.detection.data_config import DetectionData
from bnnapps.plugins.detection.geometry import FILL, Mapping, Window, mapped_boxes, mapped_image, mapping
from bnnapps.plugins.detection.sets import DetectionSet, Flags, Floats, Objects, Pixels
from bnnapps.plugins.imagery.images import BrokenImageError, broken_message
from bnnapps.training.loader import EpochLoader

Target = dict[str, Tensor]


class Example(NamedTuple):
    """An image as the detector takes it, or the reason why there is none."""

    number: int
    image: Tensor | None
    target: Target
    reason: str = ""


class DetectionExamples:
    """Images brought to their size, and in training changed at random.

    Args:
        part: the images.
        settings: of the recipe.
        seed: of the random changes.
        train: whether there are any.

    """

    def __init__(self, part: DetectionSet, settings: DetectionData, seed: int, train: bool) -> None:
        self.part, self.settings, self.seed, self.train = part, settings, seed, train
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> Example:
        try:
            image = self.part.image(index)
        except BrokenImageError as problem:
            return Example(index, None, {}, str(problem))
        objects = self.part.target(index)
        augment = self.settings.augment if self.train else "none"
        if self.train:
            wanted = ~objects.crowd & (self.settings.keep_difficult | ~objects.difficult)
            objects = objects.take(wanted)
        height, width = image.shape[:2]
        window = Window(0, 0, width, height)
        rng = image_rng(self.seed, self.epoch, index)
        mirrored = augment != "none" and rng.random() < 0.5
        if augment == "ssd":
            canvas = zoomed_out(rng, width, height, self.settings.expand)
            window = cropped(rng, objects.boxes, canvas)
            objects = _cut(objects, window)
        to = mapping(window, self.settings.size, self.settings.resize, self.settings.max_size)
        if augment == "ssd":
            objects = objects.take(_visible(mapped_boxes(objects.boxes, to)))
        pixels, place = mapped_image(image, window, to)
        if augment == "ssd":
            pixels = distorted(rng, pixels, self.settings.swap_channels)
        return Example(index, _tensor(_on_ground(pixels, place, to), mirrored), _target(objects, to, mirrored, image))


def _cut(objects: Objects, window: Window) -> Objects:
    """The objects whose middle lies in the window, their boxes clipped to it."""
    boxes, keep = boxes_in(objects.boxes, window)
    return replace(objects, boxes=boxes, area=box_areas(boxes)).take(keep)


def _visible(boxes: Floats) -> Flags:
    """Whether both sides are at least a pixel: less, after zooming out, is nothing that anyone could find."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2] >= 1).all(1))


def _on_ground(pixels: Pixels, place: tuple[int, int], to: Mapping) -> Pixels:
    if pixels.shape[:2] == (to.height, to.width):
        return pixels
    found = np.empty((to.height, to.width, 3), np.uint8)
    found[:] = FILL
    column, row = place
    found[row : row + pixels.shape[0], column : column + pixels.shape[1]] = pixels
    return found


def _tensor(pixels: Pixels, mirrored: bool) -> Tensor:
    turned = pixels[:, ::-1] if mirrored else pixels
    return torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 0, 1))).float().div_(255)


def _target(objects: Objects, to: Mapping, mirrored: bool, image: Pixels) -> Target:
    boxes = mapped_boxes(objects.boxes, to)
    scale, offset = to.scale, to.offset
    if mirrored:
        boxes = np.stack([to.width - boxes[:, 2], boxes[:, 1], to.width - boxes[:, 0], boxes[:, 3]], axis=1)
        scale, offset = (-scale[0], scale[1]), (to.width - offset[0], offset[1])
    return {
        "boxes": torch.from_numpy(boxes.reshape(-1, 4)),
        "labels": torch.from_numpy(objects.labels.copy()),
        "difficult": torch.from_numpy(objects.difficult.copy()),
        "crowd": torch.from_numpy(objects.crowd.copy()),
        "area": torch.from_numpy((objects.area * (to.scale[0] * to.scale[1])).astype(np.float32)),
        "image_id": torch.tensor(objects.image_id),
        "scale": torch.tensor(scale, dtype=torch.float32),
        "offset": torch.tensor(offset, dtype=torch.float32),
        "original_size": torch.tensor(image.shape[:2]),
    }


class DetectionLoader(EpochLoader):
    """Batches as `detection_loader` describes them.

    Args:
        examples: the images.
        batch_size: images a batch.
        seed: of the order.
        shuffle: false keeps the order of the data.
        workers: processes that decode and change images.
        broken: takes the files that cannot be decoded, with the reason; `None`: the first one is an error.

    """

    def __init__(
        self,
        examples: DetectionExamples,
        batch_size: int,
        seed: int,
        shuffle: bool,
        workers: int,
        broken: dict[Path, str] | None,
    ) -> None:
        super().__init__(examples, list, batch_size, seed, shuffle=shuffle, workers=workers)  # type: ignore[arg-type]
        self.examples, self.broken = examples, broken

    def set_epoch(self, epoch: int) -> None:
        """Start the given epoch from its first batch."""
        super().set_epoch(epoch)
        self.examples.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        rows: list[Example]
        for rows in super().__iter__():
            found = [(row.image, row.target) for row in rows if row.image is not None]
            for row in rows:
                if row.image is None:
                    self._note(self.examples.part.name(row.number), row.reason)
            if not found:
                first = self.examples.part.name(rows[0].number)
                raise DataError(f"none of the {len(rows)} images of a batch can be decoded, {first} among them")
            yield {"images": [image for image, _ in found], "targets": [target for _, target in found]}

    def _note(self, name: str, reason: str) -> None:
        path = Path(name)
        if self.broken is None:
            raise DataError(broken_message(path, reason))
        if path not in self.broken:
            self.broken[path] = reason
            warnings.warn(f"{path} cannot be decoded ({reason}): left out", stacklevel=2)


def detection_loader(
    part: DetectionSet, settings: DetectionData, seed: int, train: bool, broken: dict[Path, str] | None = None
) -> DetectionLoader:
    """The loader of the training set (shuffled, changed) or of the dev set (in order, as it is).

    A batch is `{"images": list of float32 (3, H, W) in [0, 1], "targets": list of dicts}`. A target has `boxes` (n, 4)
    float32 x1 y1 x2 y2 in pixels of the image as the detector sees it, `labels` (n,) int64 from 1 on, `difficult` and
    `crowd` (n,) bool, `area` (n,) float32 in those pixels, `image_id` int64, and how to come back to the image as it
    was: `scale` (2,) and `offset` (2,) float32 in x and y, `original_size` (2,) int64 height and width
    (`geometry.original_boxes`). Training targets hold no crowd regions, and difficult objects only if
    `keep_difficult`; an image whose target has no box is one without objects.

    Every random change follows from (seed, epoch, image) alone. Where `skip_broken` is set, files that cannot be
    decoded are left out and noted in `broken`; else the first one is a `DataError`.
    """
    noted = ({} if broken is None else broken) if settings.skip_broken else None
    return DetectionLoader(
        DetectionExamples(part, settings, seed, train),
        settings.batch_size if train else settings.eval_batch_size,
        seed,
        shuffle=train,
        workers=settings.workers,
        broken=noted,
    )

"""The images and masks of a recipe: read, checked, drawn and brought to the size that the network takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.classification.augment import Normalize
from bnnapps.plugins.classification.sets import IMAGENET_MEAN, IMAGENET_STD, pixel_statistics
from bnnapps.plugins.segmentation.augment import Size, letterboxed, resized
from bnnapps.plugins.segmentation.camvid import load_camvid
from bnnapps.plugins.segmentation.cityscapes import load_cityscapes
from bnnapps.plugins.segmentation.config import EMBEDDED, LISTS, SegmentationData
from bnnapps.plugins.segmentation.road import COUNTS, SIZE, synthetic_road
from bnnapps.plugins.segmentation.scenes import load_scenes
from bnnapps.plugins.segmentation.sets import IGNORE, ArraySet, FileSet, Part, Splits, drawn, one_against_the_rest
from bnnapps.plugins.segmentation.voc import load_voc

_WANTED = {
    "voc": "a VOC tree, with JPEGImages, SegmentationClass and ImageSets/Segmentation",
    "cityscapes": "the folder with leftImg8bit and gtFine",
    "camvid": "the folder with train.txt, val.txt and test.txt of SegNet's CamVid",
}


@dataclass(frozen=True)
class Prepared:
    """Everything about the data that training needs.

    Attributes:
        splits: the images and masks.
        size: height and width of what the network sees in evaluation.
        crop: of what it sees in training.
        normalize: the last step before the network.
    """

    splits: Splits
    size: Size
    crop: Size
    normalize: Normalize


def prepare_segmentation(settings: SegmentationData, seed: int) -> Prepared:
    """The images and masks that a recipe asks for.

    `train_size` and `dev_size` draw with the recipe's seed.

    Raises:
        DataError, MissingExtraError: with one clear line that names the file or the key.
    """
    if settings.source not in EMBEDDED and settings.root is None:
        raise DataError(f"data.source is '{settings.source}', so data.root must name {_WANTED[settings.source]}")
    splits = _read(settings)
    for name, part in (("training", splits.train), ("dev", splits.dev)):
        if len(part) == 0:
            raise DataError(f"{splits.description}: the {name} set is empty")
    if settings.only is not None:
        splits = one_against_the_rest(splits, settings.only)
    train, dev = drawn(splits.train, settings.train_size, seed), drawn(splits.dev, settings.dev_size, seed)
    wanted = None if settings.size is None else (settings.size[0], settings.size[1])
    train, dev = (_sized(part, wanted, settings) for part in (train, dev))
    size = wanted if wanted is not None else _size_of(dev)
    crop = (settings.crop[0], settings.crop[1]) if settings.crop is not None else size
    _check(train, settings.batch_size)
    if settings.mean is not None and settings.std is not None:
        mean, std = settings.mean, settings.std
    elif isinstance(train, ArraySet):
        mean, std = pixel_statistics(train.images)
    else:
        mean, std = list(IMAGENET_MEAN), list(IMAGENET_STD)
    return Prepared(replace(splits, train=train, dev=dev), size, crop, Normalize(mean, std))


def _read(settings: SegmentationData) -> Splits:
    train = settings.train_size if settings.train_size is not None else COUNTS["train"]
    dev = settings.dev_size if settings.dev_size is not None else COUNTS["dev"]
    if settings.source == "synthetic_road":
        size = SIZE if settings.size is None else (settings.size[0], settings.size[1])
        return synthetic_road(train, dev, size, settings.generator_seed)
    if settings.source == "digit_scenes":
        return load_scenes(train, dev, settings.scene_size, settings.scene_digits, settings.generator_seed)
    assert settings.root is not None
    names = LISTS[settings.source]
    train_list = names[0] if settings.train_list is None else settings.train_list
    dev_list = names[1] if settings.dev_list is None else settings.dev_list
    if settings.source == "voc":
        return load_voc(settings.root, train_list, dev_list, settings.sbd_root)
    load = load_camvid if settings.source == "camvid" else load_cityscapes
    return load(settings.root, train_list, dev_list)


def _sized(part: Part, size: Size | None, settings: SegmentationData) -> Part:
    """The images at `size`; in memory, if the recipe says so."""
    fit = None if size is None else partial(letterboxed if settings.fit == "pad" else resized, size=size)
    if isinstance(part, FileSet):
        fitted = replace(part, fit=fit)
        return _cached(fitted) if settings.cache else fitted
    if fit is None or tuple(part.images.shape[2:]) == size:
        return part
    pairs = [fit(*part.at(i)) for i in range(len(part))]
    return ArraySet(torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs]))


def _cached(part: FileSet) -> ArraySet:
    """Every image and mask, decoded once."""
    found: list[tuple[Tensor, Tensor]] = []
    for index, pair in enumerate(part.pairs):
        image, mask = part.at(index)
        if found and mask.shape != found[0][1].shape:
            first = found[0][1].shape
            raise DataError(
                f"{pair.image} is {mask.shape[0]}x{mask.shape[1]} and {part.pairs[0].image} {first[0]}x{first[1]} "
                "(height, width): set data.size, which all images are brought to"
            )
        found.append((image, mask))
    return ArraySet(torch.stack([image for image, _ in found]), torch.stack([mask for _, mask in found]))


def _size_of(part: Part) -> Size:
    height, width = part.at(0)[1].shape
    return int(height), int(width)


def _check(train: Part, batch_size: int) -> None:
    """BatchNorm behind a pooling over the whole map needs two images; the loss needs a pixel that counts."""
    count = len(train)
    if count < 2:
        raise DataError(f"there is only {count} training image: give more data, or raise data.train_size")
    if batch_size > 1 and count % batch_size == 1:
        better = batch_size + 1 if count % (batch_size + 1) != 1 else batch_size - 1
        raise DataError(
            f"{count} training images in batches of {batch_size} leave a last batch of one image: set data.batch_size "
            f"to {better}, or change data.train_size"
        )
    if isinstance(train, ArraySet) and bool((train.masks == IGNORE).all()):
        raise DataError("every pixel of the training masks is ignored: check data.root, data.only and the masks")

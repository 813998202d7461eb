"""The images of a recipe: read, checked, drawn and brought to the size that the network takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from bnnapps.errors import DataError
from bnnapps.plugins.classification.augment import Normalize
from bnnapps.plugins.classification.cifar import load_cifar
from bnnapps.plugins.classification.config import ImageData
from bnnapps.plugins.classification.digits import load_digits
from bnnapps.plugins.classification.folder import cached, load_folder
from bnnapps.plugins.classification.npz import load_npz
from bnnapps.plugins.classification.sets import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ArraySet,
    ImageSplits,
    drawn,
    fitted,
    pixel_statistics,
)
from bnnapps.plugins.classification.textures import SIZES, make_textures

FOLDER_SIZE = 224


@dataclass(frozen=True)
class Prepared:
    """Everything about the data that training needs.

    Attributes:
        splits: the images.
        size: height and width of what the network sees (`None`: that of the images, which are not square).
        channels: of what the network sees.
        normalize: the last step before it.
        broken: files that could not be decoded, with the reason; grows in training.
    """

    splits: ImageSplits
    size: int | None
    channels: int
    normalize: Normalize
    broken: dict[Path, str] = field(default_factory=dict)


def prepare_images(settings: ImageData, seed: int) -> Prepared:
    """The images that a recipe asks for.

    `train_size` and `dev_size` draw with the recipe's seed.

    Raises:
        DataError, MissingExtraError: with one clear line.
    """
    if settings.source not in ("digits", "textures") and settings.root is None:
        raise DataError(f"data.source is '{settings.source}', so data.root must name {_WANTED[settings.source]}")
    splits = _read(settings)
    train, dev = drawn(splits.train, settings.train_size, seed), drawn(splits.dev, settings.dev_size, seed)
    broken: dict[Path, str] = {}
    size = settings.size
    if settings.source == "folder" and size is None:
        size = FOLDER_SIZE
    if settings.cache:
        assert size is not None
        train, dev = (
            part if isinstance(part, ArraySet) else cached(part, size, settings.skip_broken, broken)
            for part in (train, dev)
        )
    if isinstance(train, ArraySet) and isinstance(dev, ArraySet):
        train, dev = fitted(train, size, settings.channels), fitted(dev, size, settings.channels)
        channels, height, width = train.shape
        size = height if height == width else None
        mean, std = pixel_statistics(train.images) if settings.source != "folder" else _imagenet()
    else:
        channels, (mean, std) = 3, _imagenet()
    if settings.mean is not None and settings.std is not None:
        mean, std = settings.mean, settings.std
        if len(mean) not in (1, channels):
            raise DataError(f"data.mean has {len(mean)} numbers, but the images have {channels} channels")
    _check_batches(len(train), settings.batch_size)
    return Prepared(replace(splits, train=train, dev=dev), size, channels, Normalize(mean, std), broken)


def _check_batches(images: int, batch_size: int) -> None:
    """BatchNorm has nothing to normalise over in a batch of one image."""
    if images < 2:
        raise DataError(f"there is only {images} training image: give more data, or raise data.train_size")
    if batch_size > 1 and images % batch_size == 1:
        raise DataError(
            f"{images} training images in batches of {batch_size} leave a last batch of one image: set data.batch_size "
            f"to {batch_size + 1 if images % (batch_size + 1) != 1 else batch_size - 1}, or change data.train_size"
        )


_WANTED = {
    "cifar10": "the folder of the official batches (cifar-10-batches-py or cifar-10-batches-bin)",
    "cifar100": "the folder of the official batches (cifar-100-python or cifar-100-binary)",
    "npz": "a file with x_train, y_train, x_test and y_test",
    "folder": "a folder with train/CLASS/*.jpeg and val/CLASS/*.jpeg",
}


def _read(settings: ImageData) -> ImageSplits:
    if settings.source == "digits":
        return load_digits()
    if settings.source == "textures":
        sizes = (
            SIZES["train"] if settings.train_size is None else settings.train_size,
            SIZES["dev"] if settings.dev_size is None else settings.dev_size,
        )
        return make_textures(*sizes, settings.generator_seed)
    assert settings.root is not None
    if settings.source == "npz":
        return load_npz(settings.root)
    if settings.source == "folder":
        return load_folder(settings.root)
    return load_cifar(settings.source, settings.root)


def _imagenet() -> tuple[list[float], list[float]]:
    return list(IMAGENET_MEAN), list(IMAGENET_STD)

"""Image folders in ImageNet's layout: `train/CLASS/*.jpeg` and `val/CLASS/*.jpeg`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bnnapps.errors import DataError, MissingExtraError
from bnnapps.plugins.classification.sets import ArraySet, FileSet, ImageSplits, check_splits

_DEV_NAMES = ("val", "test")
RESIZE = 256 / 224
"""Evaluation scales the shorter side to this times the size and cuts out the middle, as in the papers."""


class BrokenImageError(Exception):
    """An image file that cannot be decoded; the message is the reason."""


def torchvision() -> Any:
    """The package, or a clear error."""
    try:
        import torchvision as package
    except ImportError:
        raise MissingExtraError("torchvision", "image", "the task 'classification'") from None
    return package


def load_folder(root: str | Path) -> ImageSplits:
    """The files of `root/train` and `root/val` (or `root/test`); classes are the sorted names of the folders.

    Hidden files and folders are left out. No image is opened yet.

    Raises:
        DataError: a folder is missing or empty, or dev images are of a class that has no training images.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(f"no data folder {root}: expected train/CLASS/*.jpeg and val/CLASS/*.jpeg in it")
    dev_name = next((name for name in _DEV_NAMES if (root / name).is_dir()), None)
    if dev_name is None or not (root / "train").is_dir():
        lacking = "train" if dev_name is not None else "val"
        raise DataError(f"no folder '{lacking}' in {root}: expected train/CLASS/*.jpeg and val/CLASS/*.jpeg")
    classes = _subfolders(root / "train")
    unknown = [name for name in _subfolders(root / dev_name) if name not in classes]
    if unknown:
        raise DataError(f"{root / dev_name} has the class '{unknown[0]}', which {root / 'train'} does not have")
    train, dev = (_files(root / name, classes) for name in ("train", dev_name))
    return check_splits(ImageSplits(train, dev, tuple(classes), f"{root.name} (from an image folder)"), str(root))


def _subfolders(folder: Path) -> list[str]:
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise DataError(f"{folder} has no folders: expected one for each class, with its images")
    return found


def _files(folder: Path, classes: list[str]) -> FileSet:
    """Every image file below the classes' folders, found by torchvision's ImageFolder."""
    datasets = torchvision().datasets
    extensions = datasets.folder.IMG_EXTENSIONS
    numbers = {name: i for i, name in enumerate(classes) if (folder / name).is_dir()}

    def is_image(path: str) -> bool:
        return not Path(path).name.startswith(".") and path.lower().endswith(extensions)

    found = datasets.DatasetFolder.make_dataset(
        str(folder), numbers, extensions=None, is_valid_file=is_image, allow_empty=True
    )
    filled = {number for _, number in found}
    empty = [name for name, number in numbers.items() if number not in filled]
    if empty:
        raise DataError(f"{folder / empty[0]} has no images: expected files that end in {', '.join(extensions)}")
    return FileSet([Path(path) for path, _ in found], torch.tensor([number for _, number in found]))


def decode(path: Path) -> Any:
    """A file as a PIL image in RGB.

    Raises:
        BrokenImageError: it cannot be decoded.
    """
    from PIL import Image

    try:
        with path.open("rb") as file, Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as problem:
        raise BrokenImageError(str(problem).splitlines()[0] if str(problem) else type(problem).__name__) from None


def evaluation_transform(size: int) -> Any:
    """The middle of the image at `size`, as a uint8 tensor (3, size, size)."""
    v2 = _v2()
    return v2.Compose([v2.Resize(round(size * RESIZE)), v2.CenterCrop(size), v2.PILToTensor()])


def training_transform(augment: str, size: int, settings: Any) -> Any:
    """What the recipe asks for, to a uint8 tensor (3, size, size); random numbers come from torch's CPU generator."""
    v2 = _v2()
    if augment == "none":
        return evaluation_transform(size)
    if augment in ("crop", "flip_crop"):
        steps = [v2.Resize(size), v2.CenterCrop(size), v2.RandomCrop(size, padding=settings.padding)]
        return v2.Compose([*steps, *([v2.RandomHorizontalFlip()] if augment == "flip_crop" else []), v2.PILToTensor()])
    steps = [v2.RandomResizedCrop(size, scale=(settings.min_scale, 1.0)), v2.RandomHorizontalFlip()]
    if settings.color_jitter > 0:
        steps.append(v2.ColorJitter(*[settings.color_jitter] * 3))
    steps.append(v2.PILToTensor())
    if settings.lighting > 0:
        steps.append(Lighting(settings.lighting))
    return v2.Compose(steps)


def _v2() -> Any:
    torchvision()
    from torchvision.transforms import v2

    return v2


class Lighting:
    """Noise along the principal colours of ImageNet's pixels (Krizhevsky, Sutskever, Hinton: AlexNet, NeurIPS 2012).

    x + P (a * l) for every pixel in [0, 1], with P and l the eigenvectors and eigenvalues of the covariance of colours
    over ImageNet and a ~ N(0, deviation^2) drawn once an image. Takes and gives uint8 (3, H, W).
    """

    _VALUES = torch.tensor([0.2175, 0.0188, 0.0045])
    _VECTORS = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation

    def __call__(self, image: Tensor) -> Tensor:
        """The image with its colours shifted."""
        shift = self._VECTORS @ (torch.randn(3) * self.deviation * self._VALUES)
        return (image.float() + 255 * shift[:, None, None]).round_().clamp_(0, 255).to(torch.uint8)


def cached(part: FileSet, size: int, skip_broken: bool, broken: dict[Path, str]) -> ArraySet:
    """Every image of a set, decoded once at `size`; those that cannot be are left out and noted in `broken`.

    Raises:
        DataError: an image cannot be decoded and `skip_broken` is false, or none can.
    """
    transform = evaluation_transform(size)
    images, kept = [], []
    for index, path in enumerate(part.paths):
        try:
            images.append(transform(decode(path)))
        except BrokenImageError as problem:
            if not skip_broken:
                raise DataError(broken_message(path, str(problem))) from None
            broken[path] = str(problem)
        else:
            kept.append(index)
    if not images:
        raise DataError(f"none of the {len(part)} images could be decoded, the first is {part.paths[0]}")
    return ArraySet(torch.stack(images), part.labels[kept])


def broken_message(path: Path, reason: str) -> str:
    """One line about an image that cannot be decoded."""
    return f"{path} cannot be decoded ({reason}): repair or delete it, or set data.skip_broken to true to go on without"

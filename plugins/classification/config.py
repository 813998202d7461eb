"""What a recipe for image classification may say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bnnapps.recipe.schema import Recipe
from bnnapps.validation import Options, Record

Source = Literal["digits", "textures", "cifar10", "cifar100", "npz", "folder"]
Augment = Literal["none", "crop", "flip_crop", "imagenet"]
EMBEDDED: tuple[Source, ...] = ("digits", "textures")


class ImageData(Record):
    """Which images, and how they are batched and changed in training."""

    source: Source = "digits"
    """`digits`: real handwriting that a package ships; `textures`: generated; the others read files from `root`."""
    root: str | None = None
    """`cifar10`, `cifar100`: the folder of the official batches; `npz`: a file; `folder`: has `train/CLASS/*.jpeg`."""
    train_size: int | None = Field(default=None, ge=1)
    """Take only so many training images, drawn with the recipe's seed."""
    dev_size: int | None = Field(default=None, ge=1)
    """Take only so many dev images, drawn with the recipe's seed."""
    batch_size: int = Field(default=128, ge=1)
    eval_batch_size: int = Field(default=256, ge=1)
    size: int | None = Field(default=None, ge=4)
    """Height and width of what the network sees; by default that of the data, and 224 for `folder`."""
    channels: Literal[1, 3] | None = None
    """3 repeats a grey image; by default that of the data."""
    mean: list[float] | None = None
    """Of each channel of the pixels in [0, 1]; by default that of the training set (of ImageNet for `folder`)."""
    std: list[float] | None = None
    """Beside `mean`."""
    augment: Augment = "none"
    """`crop`: random shifts by `padding`; `flip_crop`: mirrored too; `imagenet`: random part of the image, mirrored."""
    padding: int = Field(default=4, ge=0)
    """For `crop` and `flip_crop`: black pixels around the image, of which a random part is cut away again."""
    min_scale: float = Field(default=0.08, gt=0, le=1)
    """For `imagenet`: the smallest part of the image's area."""
    lighting: float = Field(default=0.0, ge=0)
    """For `imagenet`: deviation of noise along the principal colours of ImageNet (AlexNet's; Bi-Real takes 0.1)."""
    color_jitter: float = Field(default=0.0, ge=0)
    """For `imagenet`: how far brightness, contrast and saturation may go, 0.4 for between 0.6 and 1.4."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of the Beta distribution that pairs of training images are mixed by; 0: none."""
    workers: int = Field(default=0, ge=0)
    """For `folder`: processes that decode images."""
    cache: bool = False
    """For `folder`: decode each image once, at `size`, and keep them all in memory."""
    skip_broken: bool = False
    """For `folder`: go on without images that cannot be decoded; they are named and counted."""
    generator_seed: int = Field(default=0, ge=0)
    """For `textures`."""

    @model_validator(mode="after")
    def _fits_together(self) -> ImageData:
        if self.source in EMBEDDED and self.root is not None:
            raise ValueError(
                f"root is given, but source is '{self.source}', which reads none: drop root, or set source"
            )
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both of 'mean' and 'std', or neither")
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} numbers and std {len(self.std)}: give one for each channel")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std is {self.std}: every number must be positive")
        if self.source == "folder" and self.channels == 1:
            raise ValueError("channels is 1, but source 'folder' gives colour images: drop channels")
        in_memory = self.source != "folder" or self.cache
        if self.augment == "imagenet" and in_memory:
            why = "cache is true" if self.source == "folder" else f"source is '{self.source}'"
            raise ValueError(f"augment 'imagenet' needs the whole files, but {why}: use flip_crop or crop")
        if self.augment != "imagenet" and (self.lighting or self.color_jitter):
            raise ValueError(f"lighting and color_jitter belong to augment 'imagenet', and augment is '{self.augment}'")
        for key in ("workers", "cache", "skip_broken"):
            if getattr(self, key) and self.source != "folder":
                raise ValueError(f"{key} is for source 'folder', and source is '{self.source}': drop it")
        if 0 < self.mixup < 0.01:
            raise ValueError(f"mixup is {self.mixup}: give 0 for none, or at least 0.01")
        if self.workers and self.cache:
            raise ValueError("workers has no use when cache is true: drop one of them")
        return self


class ImageModel(Record):
    """The network: exactly one of `name`, `torchvision` and `timm`."""

    name: str | None = None
    """`digits_cnn`, `digits_resnet`, or a model of `bnnapps list models`."""
    torchvision: str | None = None
    """A classification model of torchvision, such as resnet18."""
    timm: str | None = None
    """A model of timm, such as resnet18."""
    pretrained: bool = False
    """Start from the weights that torchvision or timm publish (a download, unless they are cached)."""
    options: Options = Field(default_factory=dict)
    """Further arguments of the model's function."""
    checkpoint: str | None = None
    """A file of weights to start from: a state_dict, or a checkpoint that has one."""
    channels_last: bool = False
    """Maps lie in memory with their channels together: the same numbers up to rounding, faster on most processors."""

    @field_validator("options")
    @classmethod
    def _no_classes(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(value.keys() & {"num_classes", "in_channels", "in_chans", "pretrained", "weights"})
        if taken:
            raise ValueError(f"'{taken[0]}' is set by the task: from the data, or by 'pretrained'")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> ImageModel:
        given = [k for k in ("name", "torchvision", "timm") if getattr(self, k) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise ValueError(f"give exactly one of 'name', 'torchvision' and 'timm', not {found}")
        if self.pretrained and self.name is not None:
            raise ValueError("pretrained is for torchvision and timm: give 'checkpoint', a file of weights")
        if self.pretrained and self.checkpoint is not None:
            raise ValueError("give one of 'pretrained' and 'checkpoint'")
        return self


class ClassificationRecipe(Recipe):
    """A recipe of the task `classification`."""

    data: ImageData = ImageData()
    model: ImageModel = ImageModel(name="digits_cnn")

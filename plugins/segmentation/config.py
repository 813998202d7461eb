"""What a recipe for semantic segmentation may say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bnnapps.recipe.schema import Recipe
from bnnapps.validation import Options, Record

Source = Literal["digit_scenes", "synthetic_road", "voc", "cityscapes", "camvid"]
Augment = Literal["none", "flip", "scale_crop"]
Head = Literal["fcn32s", "fcn16s", "fcn8s", "deeplab"]
EMBEDDED: tuple[Source, ...] = ("digit_scenes", "synthetic_road")
LISTS: dict[str, tuple[str, str]] = {
    "voc": ("train", "val"),
    "cityscapes": ("train", "val"),
    "camvid": ("train", "test"),
}
"""The training list and the dev list of each source, unless a recipe names others."""


class SegmentationData(Record):
    """Which images and masks, and how they are batched and changed in training."""

    source: Source = "synthetic_road"
    """`synthetic_road` and `digit_scenes` are embedded; the others read files from `root`."""
    root: str | None = None
    """`voc`: has JPEGImages, SegmentationClass and ImageSets/Segmentation; `cityscapes`: leftImg8bit and gtFine;
    `camvid`: train.txt, val.txt and test.txt, as SegNet has them."""
    sbd_root: str | None = None
    """For `voc`: the folder of SBD that has `cls` and `img`; its images train too, but for those of VOC's dev list."""
    train_list: str | None = None
    """Which list trains; several with `+`, such as train+val. By default `train`."""
    dev_list: str | None = None
    """Which list is evaluated; by default `val`, for `camvid` `test`."""
    only: str | None = None
    """The name of a class: this one against all the rest, two classes in place of all."""
    train_size: int | None = Field(default=None, ge=1)
    """Take only so many training images, drawn with the recipe's seed."""
    dev_size: int | None = Field(default=None, ge=1)
    """Take only so many dev images, drawn with the recipe's seed."""
    batch_size: int = Field(default=16, ge=1)
    eval_batch_size: int = Field(default=16, ge=1)
    size: list[int] | None = None
    """Height and width that images are brought to; by default that of the data, where all have the same."""
    fit: Literal["stretch", "pad"] = "stretch"
    """How they are: `stretch`: both sides; `pad`: larger ones scaled, the rest filled and ignored."""
    crop: list[int] | None = None
    """For `scale_crop`: height and width of what is cut out in training; by default `size`."""
    augment: Augment = "flip"
    """`flip`: mirrored for every second image; `scale_crop`: scaled by `scales`, a random part, mirrored too."""
    scales: list[float] = Field(default_factory=lambda: [0.5, 2.0])
    """For `scale_crop`: the smallest and the largest factor; each octave between them is as likely."""
    color_jitter: float = Field(default=0.0, ge=0, le=1)
    """How far brightness and contrast may go in training, 0.2 for between 0.8 and 1.2."""
    mean: list[float] | None = None
    """Of each channel of the pixels in [0, 1]; by default that of the training set."""
    std: list[float] | None = None
    """Beside `mean`."""
    workers: int = Field(default=0, ge=0)
    """Processes that decode images, where `cache` is false."""
    cache: bool = True
    """Decode each image once, at `size`, and keep them all in memory."""
    scene_size: int = Field(default=96, ge=48)
    """For `digit_scenes`: side of a scene in pixels."""
    scene_digits: int = Field(default=5, ge=1)
    """For `digit_scenes`: most digits in a scene."""
    generator_seed: int = Field(default=0, ge=0)
    """For the embedded sources."""

    @model_validator(mode="after")
    def _fits_together(self) -> SegmentationData:
        embedded = self.source in EMBEDDED
        if embedded:
            for key in ("root", "train_list", "dev_list"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} is given, but source '{self.source}' reads no files: drop {key}")
        if self.sbd_root is not None and self.source != "voc":
            raise ValueError(f"sbd_root is for source 'voc', and source is '{self.source}': drop it")
        for key in ("size", "crop"):
            value = getattr(self, key)
            if value is not None and (len(value) != 2 or min(value) < 16):
                raise ValueError(f"{key} is {value}: give height and width, each at least 16")
        if self.crop is not None and self.augment != "scale_crop":
            raise ValueError(f"crop belongs to augment 'scale_crop', and augment is '{self.augment}'")
        if len(self.scales) != 2 or not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales is {self.scales}: give the smallest and the largest factor, both above 0")
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both of 'mean' and 'std', or neither")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != 3 or len(self.std) != 3:
                raise ValueError("mean and std need three numbers each, one for each channel")
            if min(self.std) <= 0:
                raise ValueError(f"std is {self.std}: every number must be positive")
        if self.fit == "pad" and self.size is None:
            raise ValueError("fit 'pad' needs a size to pad to: give size")
        if self.workers and self.cache:
            raise ValueError("workers has no use when cache is true: drop one of them")
        return self


class SegmentationModel(Record):
    """The network: exactly one of `backbone`, `name` and `torchvision`."""

    backbone: str | None = None
    """A ResNet or VGG of torchvision, such as resnet18 or vgg16_bn, or `small_resnet`; `head` stands on it."""
    head: Head = "fcn16s"
    """`fcn32s`, `fcn16s`, `fcn8s`: scores of the last one, two or three stages; `deeplab`: dilated pooling pyramid."""
    output_stride: Literal[8, 16, 32] = 32
    """By how much the last stage is smaller than the image; what would be smaller is dilated instead."""
    name: str | None = None
    """A network of this package: dadnet."""
    torchvision: str | None = None
    """A segmentation model of torchvision, such as fcn_resnet50 or deeplabv3_resnet50."""
    pretrained: bool = False
    """Start from the weights that torchvision publishes (a download, unless they are cached)."""
    options: Options = Field(default_factory=dict)
    """Further arguments of the backbone's or the network's function."""
    checkpoint: str | None = None
    """A file of weights of the whole network to start from."""
    backbone_checkpoint: str | None = None
    """A file of weights of a classifier with this backbone; its last layers are left out."""
    channels_last: bool = False
    """Maps lie in memory with their channels together: the same numbers up to rounding, faster on most processors."""

    @field_validator("options")
    @classmethod
    def _no_classes(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(value.keys() & {"num_classes", "in_channels", "weights", "weights_backbone", "aux_loss"})
        if taken:
            raise ValueError(f"'{taken[0]}' is set by the task: from the data, or by 'pretrained'")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> SegmentationModel:
        given = [k for k in ("backbone", "name", "torchvision") if getattr(self, k) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise ValueError(f"give exactly one of 'backbone', 'name' and 'torchvision', not {found}")
        if self.pretrained and self.name is not None:
            raise ValueError("pretrained is for torchvision's weights: give 'checkpoint', a file of weights")
        if self.backbone is None and self.backbone_checkpoint is not None:
            raise ValueError("backbone_checkpoint goes with 'backbone': give 'checkpoint', the whole network's weights")
        files = [k for k in ("checkpoint", "backbone_checkpoint") if getattr(self, k) is not None]
        if len(files) + self.pretrained > 1:
            raise ValueError("give one of 'pretrained', 'checkpoint' and 'backbone_checkpoint'")
        return self


class SegmentationRecipe(Recipe):
    """A recipe of the task `segmentation`."""

    data: SegmentationData = SegmentationData()
    model: SegmentationModel = SegmentationModel(backbone="small_resnet")

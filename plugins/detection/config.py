"""What a recipe for detection may say."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from bnnapps.plugins.detection.data_config import DetectionData
from bnnapps.recipe.schema import Recipe
from bnnapps.validation import Options, Record

SOURCES = ("name", "torchvision", "mmdet")


class DetectorModel(Record):
    """The detector: exactly one of `name`, `torchvision` and `mmdet`."""

    name: str | None = None
    """Of this package: ssd_vgg16, ssd_small, fasterrcnn_c4, fasterrcnn_fpn or retinanet_fpn."""
    torchvision: str | None = None
    """A detector of torchvision, such as ssd300_vgg16, ssdlite320_mobilenet_v3_large or fasterrcnn_resnet50_fpn."""
    mmdet: str | None = None
    """A config of mmdet's zoo by name, or a config file (needs the extra `mmdet`)."""
    pretrained: bool = False
    """Start from weights that are published for this detector (for COCO; a download, unless they are cached); layers
    whose number of outputs follows the classes start anew."""
    pretrained_backbone: bool = False
    """Start the trunk from weights for ImageNet, where torchvision has them."""
    options: Options = Field(default_factory=dict)
    """Further arguments of the detector's function, such as `size`, `min_size` or `score_thresh`."""
    checkpoint: str | None = None
    """A file of weights to start from: a state_dict, or a checkpoint that has one. One that holds a trunk alone
    (ImageNet weights) goes to the trunk."""
    gaussian: bool = False
    """Boxes by mean and variance (BiDet): eight outputs a box; evaluation takes the mean."""
    gaussian_noise: float = Field(default=0.0, ge=0)
    """For `gaussian`: how much of its deviation a box is moved by in training; the released code has 0 for SSD."""

    @field_validator("options")
    @classmethod
    def _no_classes(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(value.keys() & {"num_classes", "weights", "weights_backbone", "pretrained"})
        if taken:
            raise ValueError(f"'{taken[0]}' is set by the task: from the data, or by the keys beside 'options'")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> DetectorModel:
        given = [k for k in SOURCES if getattr(self, k) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise ValueError(f"give exactly one of 'name', 'torchvision' and 'mmdet', not {found}")
        if self.pretrained and self.name is not None:
            raise ValueError("pretrained is for torchvision and mmdet: take pretrained_backbone or 'checkpoint'")
        if self.pretrained and (self.checkpoint is not None or self.pretrained_backbone):
            raise ValueError("give one of 'pretrained', 'pretrained_backbone' and 'checkpoint'")
        if self.pretrained_backbone and self.checkpoint is not None:
            raise ValueError("give one of 'pretrained_backbone' and 'checkpoint'")
        if self.gaussian_noise and not self.gaussian:
            raise ValueError("gaussian_noise is given, but gaussian is false: set it to true, or drop the noise")
        return self


class DetectionRecipe(Recipe):
    """A recipe of the task `detection`."""

    data: DetectionData = DetectionData()
    model: DetectorModel = DetectorModel(name="ssd_small")

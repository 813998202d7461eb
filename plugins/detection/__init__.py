"""Object detection: BiDet and other methods on SSD, Faster R-CNN and RetinaNet."""

import importlib.util

from bnnapps.errors import MissingExtraError

if importlib.util.find_spec("torchvision") is None:
    raise MissingExtraError("torchvision", "detection", "the task 'detection'")

from bnnapps.plugin import Plugin
from bnnapps.plugins.detection.config import DetectionRecipe
from bnnapps.plugins.detection.task import DetectionTask

PLUGIN = Plugin(
    name="detection",
    title="Objects in images with SSD, Faster R-CNN, RetinaNet, mmdet: VOC and COCO folders, embedded digit scenes",
    recipe=DetectionRecipe,
    task=DetectionTask,
)

__all__ = ["PLUGIN", "DetectionRecipe", "DetectionTask"]

"""Semantic segmentation: a class for each pixel, from embedded street scenes to VOC, Cityscapes and CamVid."""

from bnnapps.plugin import Plugin
from bnnapps.plugins.segmentation.config import SegmentationRecipe
from bnnapps.plugins.segmentation.task import SegmentationTask

PLUGIN = Plugin(
    name="segmentation",
    title="A class for each pixel: FCN, DeepLab and DAD-Net on VOC, Cityscapes, CamVid, embedded scenes",
    recipe=SegmentationRecipe,
    task=SegmentationTask,
)

__all__ = ["PLUGIN", "SegmentationRecipe", "SegmentationTask"]

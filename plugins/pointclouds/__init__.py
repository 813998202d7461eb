"""Clouds of points: classes, parts and scenes with PointNet, PointNet++ and DGCNN, made binary by BiPointNet."""

from bnnapps.plugin import Plugin
from bnnapps.plugins.pointclouds.config import CloudRecipe
from bnnapps.plugins.pointclouds.task import CloudTask

PLUGIN = Plugin(
    name="pointclouds",
    title="Clouds of points: classes, parts, scenes; ModelNet, ShapeNet parts, S3DIS, embedded solids and rooms",
    recipe=CloudRecipe,
    task=CloudTask,
)

__all__ = ["PLUGIN", "CloudRecipe", "CloudTask"]

"""Image classification, from embedded digits to ImageNet folders."""

from bnnapps.plugin import Plugin
from bnnapps.plugins.classification.config import ClassificationRecipe
from bnnapps.plugins.classification.task import ClassificationTask

PLUGIN = Plugin(
    name="classification",
    title="Images with any network: CIFAR-10/100, MNIST-like npz, ImageNet folders, embedded digits",
    recipe=ClassificationRecipe,
    task=ClassificationTask,
)

__all__ = ["PLUGIN", "ClassificationRecipe", "ClassificationTask"]

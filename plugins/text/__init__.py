"""Text classification and regression with transformer encoders, on the tasks of GLUE."""

from bnnapps.plugin import Plugin
from bnnapps.plugins.text.config import TextRecipe
from bnnapps.plugins.text.task import TextTask

PLUGIN = Plugin(
    name="text",
    title="GLUE with any Hugging Face encoder: BiBERT, BiT, BinaryBERT, naive 1-1-1",
    recipe=TextRecipe,
    task=TextTask,
)

__all__ = ["PLUGIN", "TextRecipe", "TextTask"]

"""Keyword spotting, from generated words to Speech Commands."""

from bnnapps.plugin import Plugin
from bnnapps.plugins.keywords.recipe import KeywordsRecipe
from bnnapps.plugins.keywords.task import KeywordsTask

PLUGIN = Plugin(
    name="keywords",
    title="Spoken words: Speech Commands, Free Spoken Digits, folders of words, generated words",
    recipe=KeywordsRecipe,
    task=KeywordsTask,
)

__all__ = ["PLUGIN", "KeywordsRecipe", "KeywordsTask"]

"""What a recipe for keyword spotting may say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from bnnapps.plugins.keywords.config import SoundData
from bnnapps.recipe.schema import ExportConfig, Recipe
from bnnapps.validation import Options, Record


class KeywordModel(Record):
    """The network."""

    name: Literal["dfsmn", "fsmn", "tc_resnet", "ds_cnn"] = "dfsmn"
    """D-FSMN (BiFSMN), FSMN without shortcuts (vectorized, or `options: {compact: true}`), TC-ResNet-8 or DS-CNN."""
    options: Options = Field(default_factory=dict)
    """Further arguments of the network, such as `{depth: 4}` of D-FSMN."""
    thinnable: list[float] | None = None
    """For `dfsmn`: the weights of the losses of depths that are trained together, the whole network first and each
    next one half as deep; BiFSMN takes `[1.0, 0.5, 0.25]`."""
    teacher: dict[str, Any] | None = None
    """For `dfsmn`: stages without binary layers train a network of one depth with these options instead, such as
    `{nonlinearity: relu, dropout: 0.2}`; a stage that starts from it takes the weights that both have. By default
    float stages train the network itself."""
    checkpoint: str | None = None
    """A file of weights to start from: a state_dict, or a checkpoint that has one."""

    @model_validator(mode="after")
    def _fits_together(self) -> KeywordModel:
        given = self.options.keys() | (set() if self.teacher is None else self.teacher.keys())
        taken = sorted(given & {"classes", "rows", "columns"})
        if taken:
            raise ValueError(f"'{taken[0]}' is set by the task: it follows from the data")
        if "options" in given:
            raise ValueError("'options' follows from model.thinnable: drop it")
        if self.teacher is not None and self.name != "dfsmn":
            raise ValueError(f"teacher is for dfsmn, and name is '{self.name}': drop it")
        if self.thinnable is not None:
            if self.name != "dfsmn":
                raise ValueError(f"thinnable is for dfsmn, and name is '{self.name}': drop it")
            if not self.thinnable or min(self.thinnable) <= 0:
                raise ValueError(f"thinnable is {self.thinnable}: give a positive weight for each depth")
        return self


class KeywordsExport(ExportConfig):
    """What is exported when the training is done."""

    input: Literal["features", "sound"] = "features"
    """What goes into the files: `features`, as `assets/task.json` says; `sound`: samples, the features are inside."""


class KeywordsRecipe(Recipe):
    """A recipe of the task `keywords`."""

    data: SoundData = SoundData()
    model: KeywordModel = KeywordModel()
    export: KeywordsExport = KeywordsExport()

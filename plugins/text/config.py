"""What a text recipe may say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from bnnapps.recipe.schema import Recipe
from bnnapps.validation import Record

TaskName = Literal["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"]


class TextData(Record):
    """Which GLUE task, and where its data comes from."""

    task: TaskName = "sst2"
    source: Literal["miniglue", "folder", "hub"] = "miniglue"
    """`miniglue`: generated text, nothing to download; `folder`: GLUE's tsv files; `hub`: Hugging Face datasets."""
    root: str | None = None
    """For `folder`: the folder that holds `SST-2/train.tsv` and so on."""
    name: str = "nyu-mll/glue"
    """For `hub`: the data set's name."""
    revision: str | None = None
    """For `hub`: a branch, tag or commit."""
    max_length: int = Field(default=64, ge=8)
    """Tokens a text (or pair), special tokens included; longer ones are cut."""
    batch_size: int = Field(default=16, ge=1)
    eval_batch_size: int = Field(default=64, ge=1)
    group_by_length: bool = False
    """Put texts of similar length into a batch: less padding, faster, and not what the papers do."""
    train_size: int | None = Field(default=None, ge=1)
    """Take only so many training texts, drawn with the recipe's seed."""
    dev_size: int | None = Field(default=None, ge=1)
    """Take only the first so many dev texts."""
    generator_seed: int = Field(default=0, ge=0)
    """For `miniglue`."""

    @model_validator(mode="after")
    def _root_fits(self) -> TextData:
        if self.source == "folder" and self.root is None:
            raise ValueError("source is 'folder', so 'root' must name the folder that holds GLUE's tsv files")
        if self.source != "folder" and self.root is not None:
            raise ValueError(f"root is given, but source is '{self.source}': set source to 'folder', or drop root")
        return self


class TextModel(Record):
    """The encoder: exactly one of `path`, `hub` and `config`."""

    path: str | None = None
    """A local folder with `config.json`, weights and tokenizer."""
    hub: str | None = None
    """A model id of the Hugging Face hub."""
    config: dict[str, Any] | None = None
    """A configuration with its `model_type`, trained from random weights."""
    tokenizer: str | None = None
    """A folder or hub id; by default that of the model, and for `config` a WordPiece vocabulary learned on the data."""
    vocab_size: int = Field(default=2000, ge=50)
    """Size of the learned vocabulary."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of hidden states and attention; by default the model's own."""

    @model_validator(mode="after")
    def _one_source(self) -> TextModel:
        given = [k for k in ("path", "hub", "config") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of 'path', 'hub' and 'config', not {' and '.join(given) or 'none'}")
        if self.config is not None and "model_type" not in self.config:
            raise ValueError("config has no 'model_type', such as bert or roberta")
        return self


class TextRecipe(Recipe):
    """A recipe of the task `text`."""

    data: TextData = TextData()
    model: TextModel

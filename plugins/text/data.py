"""The examples of a recipe, encoded and batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bnnapps.plugins.text.config import TextData
from bnnapps.plugins.text.glue import Example, GlueTask, get_task
from bnnapps.plugins.text.hub import load_hub
from bnnapps.plugins.text.miniglue import SIZES, generate
from bnnapps.plugins.text.tsv import load_folder
from bnnapps.training.loader import EpochLoader

Encoded = dict[str, Any]


@dataclass(frozen=True)
class TextSplits:
    """The training set and the dev sets of a task, with a description for people."""

    task: GlueTask
    train: list[Example]
    dev: dict[str, list[Example]]
    description: str


def read_splits(settings: TextData, seed: int) -> TextSplits:
    """The examples that a recipe asks for.

    `train_size` draws from the training set with the recipe's seed; `dev_size` takes the first of each dev set.

    Raises:
        DataError, HubError: with one clear line.
    """
    task = get_task(settings.task)
    wanted = ("train", *task.dev)
    if settings.source == "miniglue":
        splits = {s: generate(task.name, s, _size(settings, s), settings.generator_seed) for s in wanted}
        description = f"miniglue {task.name} (generated)"
    elif settings.source == "folder":
        assert settings.root is not None
        splits, description = load_folder(settings.root, task), f"GLUE {task.folder} (real, from a folder)"
    else:
        splits = load_hub(task, settings.name, settings.revision)
        description = f"{settings.name} {task.name} (real, from the hub)"
    train = splits["train"]
    if settings.train_size is not None and settings.train_size < len(train):
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[: settings.train_size]
        train = [train[i] for i in chosen.sort().values.tolist()]
    dev = {name: splits[name][: settings.dev_size] for name in task.dev}
    return TextSplits(task, train, dev, description)


def _size(settings: TextData, split: str) -> int:
    kind = "train" if split == "train" else "dev"
    asked = settings.train_size if kind == "train" else settings.dev_size
    return SIZES[kind] if asked is None else asked


def text_loader(
    encoded: Sequence[Encoded], collate: Callable[[list[Encoded]], Encoded], batch_size: int, seed: int, group: bool
) -> EpochLoader:
    """The shuffled training loader."""
    lengths = [len(e["input_ids"]) for e in encoded] if group else None
    return EpochLoader(encoded, collate, batch_size, seed, lengths)


class Collate:
    """Pads a list of encoded examples to the longest of them.

    Returns `input_ids`, `attention_mask` (and `token_type_ids`, where the model takes them) of shape (B, L), and
    `labels` of shape (B,): class numbers, or float scores for a regression.
    """

    def __init__(self, pad_token_id: int, regression: bool) -> None:
        self.pad_token_id, self.regression = pad_token_id, regression

    def __call__(self, batch: list[Encoded]) -> Encoded:
        """The batch."""
        length = max(len(e["input_ids"]) for e in batch)
        found: Encoded = {"input_ids": self._padded([e["input_ids"] for e in batch], length, self.pad_token_id)}
        found["attention_mask"] = self._padded([[1] * len(e["input_ids"]) for e in batch], length, 0)
        if "token_type_ids" in batch[0]:
            found["token_type_ids"] = self._padded([e["token_type_ids"] for e in batch], length, 0)
        dtype = torch.float if self.regression else torch.long
        found["labels"] = torch.tensor([e["label"] for e in batch], dtype=dtype)
        return found

    @staticmethod
    def _padded(rows: list[list[int]], length: int, value: int) -> Tensor:
        return torch.tensor([row + [value] * (length - len(row)) for row in rows])

"""The text task: GLUE with any Hugging Face encoder."""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.errors import CheckpointError, RecipeError, UsageError
from bnnapps.losses import LossHub
from bnnapps.plugins.text.config import TextData, TextModel
from bnnapps.plugins.text.data import Collate, Encoded, TextSplits, read_splits, text_loader
from bnnapps.plugins.text.encoder import build_encoder, from_record, longest_text
from bnnapps.plugins.text.glue import Example, get_task
from bnnapps.plugins.text.metrics import primary
from bnnapps.plugins.text.module import TextModule
from bnnapps.plugins.text.narrow import narrow_encoder
from bnnapps.plugins.text.tokenization import encode, load_tokenizer, train_wordpiece
from bnnapps.recipe.schema import Recipe, ResolvedStage
from bnnapps.training.folder import write_text
from bnnapps.training.loader import EpochLoader
from bnnapps.training.task import Section, Task

_WIDTH = "_bnnapps_width"
_IMPORTANCE_BATCHES = 32


class TextTask(Task):
    """GLUE with any Hugging Face encoder."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.data, TextData)
        assert isinstance(recipe.model, TextModel)
        self.data, self.settings = recipe.data, recipe.model
        self.glue = get_task(self.data.task)
        self.monitor = f"dev/{primary(self.glue)}"
        self.tokenizer: Any = None
        self._splits: TextSplits | None = None
        self._encoded: dict[str, list[Encoded]] = {}
        self._examples: list[Encoded] | None = None

    # Data

    @property
    def splits(self) -> TextSplits:
        """The examples, read on first use."""
        if self._splits is None:
            self._splits = read_splits(self.data, self.recipe.seed)
        return self._splits

    def prepare(self) -> None:
        """Read the examples, and load or learn the tokenizer."""
        splits = self.splits
        if self.tokenizer is None:
            self.tokenizer = self._make_tokenizer(splits.train)

    def _make_tokenizer(self, train: Sequence[Example]) -> Any:
        source = self.settings.tokenizer or self.settings.path or self.settings.hub
        if source is None:
            texts = [t for e in train for t in (e.text, e.pair) if t is not None]
            try:
                return train_wordpiece(texts, self.settings.vocab_size)
            except UsageError as problem:
                raise RecipeError(f"model.vocab_size: {problem}") from None
        return load_tokenizer(source, local_only=self.settings.path is not None and self.settings.tokenizer is None)

    def describe(self) -> dict[str, Any]:
        """Name, origin and sizes of the data."""
        dev = sum(len(examples) for examples in self.splits.dev.values())
        return {"data": self.splits.description, "train": len(self.splits.train), "dev": dev}

    def encoded(self, split: str) -> list[Encoded]:
        """The encoded examples of a split, with their labels."""
        if split not in self._encoded:
            examples = self.splits.train if split == "train" else self.splits.dev[split]
            rows = encode(self.tokenizer, examples, self.data.max_length)
            self._encoded[split] = [row | {"label": e.label} for row, e in zip(rows, examples, strict=True)]
        return self._encoded[split]

    @property
    def collate(self) -> Collate:
        """How examples become a batch."""
        return Collate(self.tokenizer.pad_token_id, self.glue.regression)

    def train_loader(self) -> EpochLoader:
        """The training data."""
        data, seed = self.data, self.recipe.seed
        return text_loader(self.encoded("train"), self.collate, data.batch_size, seed, data.group_by_length)

    def dev_loaders(self) -> list[EpochLoader]:
        """The dev set, or both of MNLI's."""
        size, seed = self.data.eval_batch_size, self.recipe.seed
        return [EpochLoader(self.encoded(s), self.collate, size, seed, shuffle=False) for s in self.splits.dev]

    def example_inputs(self) -> dict[str, Tensor]:
        """Four texts of the dev set; those of the run, where one is opened again."""
        if self._examples is None:
            self._examples = self.encoded(next(iter(self.splits.dev)))[:4]
        return {k: v for k, v in self.collate(self._examples).items() if k != "labels"}

    # Models

    def build_model(self) -> nn.Module:
        """The encoder that the recipe asks for, with a head for the task."""
        vocabulary = {}
        if self.settings.config is not None:
            vocabulary = {"vocab_size": len(self.tokenizer), "pad_token_id": self.tokenizer.pad_token_id}
        model = build_encoder(self.settings, self.glue.num_labels, self.recipe.seed, vocabulary)
        limit = longest_text(model)
        if limit is not None and self.data.max_length > limit:
            raise RecipeError(
                f"data.max_length is {self.data.max_length}, but the model takes at most {limit} tokens: lower "
                "data.max_length, or take a model with more positions (model.config.max_position_embeddings)"
            )
        return model

    def architecture(self, model: nn.Module) -> dict[str, Any]:
        """The model's configuration, and its width."""
        config: Any = model.config
        plain = json.loads(json.dumps(config.to_dict(), default=str))
        return {"config": plain, "width": model.__dict__.get(_WIDTH, 1.0)}

    def build_from(self, record: dict[str, Any]) -> nn.Module:
        """An encoder of the recorded configuration and width."""
        if not isinstance(record.get("config"), dict) or not isinstance(record.get("width"), float):
            raise CheckpointError(
                "the checkpoint's record of its model has no 'config' and 'width': it is of another task"
            )
        model = from_record(record["config"])
        return model if record["width"] == 1.0 else self._narrowed(model, record["width"], [])

    def narrow(self, model: nn.Module, width: float) -> nn.Module:
        """Keep the most important heads and features, measured on the first batches of the training data."""
        loader = self.train_loader()
        loader.set_epoch(0)
        return self._narrowed(model, width, itertools.islice(loader, _IMPORTANCE_BATCHES))

    def _narrowed(self, model: nn.Module, width: float, batches: Any) -> nn.Module:
        narrow_encoder(model, width, batches, self._task_loss)
        model.__dict__[_WIDTH] = model.__dict__.get(_WIDTH, 1.0) * width
        return model

    def _task_loss(self, model: nn.Module, batch: Encoded) -> Tensor:
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits
        if self.glue.regression:
            return F.mse_loss(logits.squeeze(-1), batch["labels"])
        return F.cross_entropy(logits, batch["labels"])

    def make_module(
        self, model: nn.Module, stage: ResolvedStage, hub: LossHub, teacher: nn.Module | None
    ) -> TextModule:
        """The Lightning module for a stage."""
        return TextModule(model, stage, hub, self.recipe.seed, teacher, self.glue)

    # The run folder

    def save_assets(self, folder: Path) -> None:
        """Write the tokenizer and the example inputs."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        self.example_inputs()
        write_text(folder / "examples.json", json.dumps(self._examples) + "\n")
        write_text(folder / "task.json", json.dumps({"task": self.glue.name, "labels": self.glue.labels}) + "\n")

    def load_assets(self, folder: Path) -> None:
        """Read the tokenizer and the example inputs."""
        self.tokenizer = load_tokenizer(str(folder / "tokenizer"), local_only=True)
        examples = folder / "examples.json"
        if examples.is_file():
            self._examples = json.loads(examples.read_text(encoding="utf-8"))

    def sections(self, model: nn.Module, folder: Path) -> list[Section]:
        """Dev examples with their labels and predictions, wrong ones first."""
        name, examples = next(iter(self.splits.dev.items()))
        rows = self.encoded(name)
        logits = []
        model.eval()
        with torch.no_grad():
            for at in range(0, min(len(rows), 256), self.data.eval_batch_size):
                batch = self.collate(rows[at : at + self.data.eval_batch_size])
                logits.append(model(**{k: v for k, v in batch.items() if k != "labels"}).logits)
        return [Section("Dev examples", _examples_table(examples, torch.cat(logits), self.glue.labels))]


def _examples_table(examples: Sequence[Example], logits: Tensor, labels: tuple[str, ...] | None) -> str:
    rows = []
    for example, output in zip(examples, logits, strict=False):
        assert example.label is not None
        if labels is None:
            truth, guess = f"{example.label:.2f}", f"{float(output.squeeze()):.2f}"
            error = abs(float(example.label) - float(output.squeeze()))
        else:
            truth, guess = labels[int(example.label)], labels[int(output.argmax())]
            error = float(truth != guess)
        text = example.text if example.pair is None else f"{example.text} ‖ {example.pair}"
        rows.append((error, text, truth, guess))
    rows.sort(key=lambda r: -r[0])
    shown = rows[:10] + (rows[-10:] if len(rows) > 20 else rows[10:])
    cells = "".join(
        f"<tr class='{'wrong' if e > 0.5 else 'right'}'><td>{html.escape(t)}</td><td>{a}</td><td>{b}</td></tr>"
        for e, t, a, b in shown
    )
    return (
        f"<table><thead><tr><th>text</th><th>label</th><th>prediction</th></tr></thead><tbody>{cells}</tbody></table>"
    )

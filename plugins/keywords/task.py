"""The task of keyword spotting."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.losses import LossHub
from bnnapps.plugins.classification.model import load_weights
from bnnapps.plugins.classification.pictures import confusion_picture, contact_sheet
from bnnapps.plugins.keywords.clips import Spoken, drawn
from bnnapps.plugins.keywords.config import SoundData
from bnnapps.plugins.keywords.data import prepare_sound
from bnnapps.plugins.keywords.hearing import Hearing, hearing_of
from bnnapps.plugins.keywords.listening.run import hear_recording
from bnnapps.plugins.keywords.loader import SoundLoader, sound_loader
from bnnapps.plugins.keywords.model import Shape, build_shape, depths_of, take_weights
from bnnapps.plugins.keywords.module import KeywordsModule
from bnnapps.plugins.keywords.recipe import KeywordModel, KeywordsExport
from bnnapps.plugins.keywords.sound_graph import SoundNetwork
from bnnapps.recipe.schema import Recipe, ResolvedStage
from bnnapps.training.checkpoint import load_file, save_file
from bnnapps.training.folder import write_text
from bnnapps.training.listening import Listening
from bnnapps.training.shaped import ShapedTask, labelled
from bnnapps.training.task import ExportForm, Section

_EXAMPLES = 4
_REPORTED = 2000
"""The pictures of the report are made of at most so many dev clips."""


class KeywordsTask(ShapedTask):
    """Spoken words with a small network."""

    shape = Shape

    monitor = "dev/accuracy"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.data, SoundData)
        assert isinstance(recipe.model, KeywordModel)
        self.data, self.settings = recipe.data, recipe.model
        self._prepared: Spoken | None = None
        self._hearing: Hearing | None = None
        self._saved: dict[str, Any] | None = None
        self._examples: Tensor | None = None
        self._sounds: Tensor | None = None

    # Data

    @property
    def prepared(self) -> Spoken:
        """The clips, found on first use."""
        if self._prepared is None:
            self._prepared = prepare_sound(self.data, self.recipe.seed)
        return self._prepared

    @property
    def hearing(self) -> Hearing:
        """What turns sound into pictures, measured on the training set on first use."""
        if self._hearing is None:
            self._hearing = hearing_of(self.prepared.train, self.data.features)
        return self._hearing

    def prepare(self) -> None:
        """Find the clips, and measure the training set."""
        _ = self.hearing

    @property
    def classes(self) -> tuple[str, ...]:
        """The words."""
        return self.prepared.classes if self._saved is None else tuple(self._saved["classes"])

    def describe(self) -> dict[str, Any]:
        """Name, origin and sizes of the data."""
        data = self.prepared
        found: dict[str, Any] = {"data": data.description, "train": len(data.train), "dev": len(data.dev)}
        found |= {"classes": len(data.classes), "rate": self.data.features.rate, "seconds": self.data.seconds}
        return found | ({"notes": "; ".join(data.notes)} if data.notes else {})

    def train_loader(self) -> SoundLoader:
        """The training clips."""
        return sound_loader(self.prepared.train, self.data, self.prepared.noises, self.recipe.seed, train=True)

    def dev_loaders(self) -> list[SoundLoader]:
        """The dev clips."""
        return [sound_loader(self.prepared.dev, self.data, self.prepared.noises, self.recipe.seed, train=False)]

    def example_inputs(self) -> Tensor:
        """Pictures of four dev clips; those of the run, where one is opened again."""
        if self._examples is None:
            self._examples = self.hearing(self.example_sounds())
        return self._examples

    def example_sounds(self) -> Tensor:
        """Four dev clips; those of the run, where one is opened again."""
        if self._sounds is None:
            few = self.data.model_copy(update={"eval_batch_size": _EXAMPLES})
            batch = next(iter(sound_loader(self.prepared.dev, few, self.prepared.noises, self.recipe.seed, False)))
            self._sounds = batch["sound"]
        return self._sounds

    def export_forms(self, model: nn.Module) -> list[ExportForm]:
        """Each depth that was trained, with pictures or with sound as its input."""
        assert isinstance(self.recipe.export, KeywordsExport)
        return self._forms(model, self.recipe.export.input == "sound")

    def export_form(self, model: nn.Module, suffix: str) -> ExportForm:
        """One of them, with either input."""
        sound = suffix.startswith("-sound")
        found = next((form for form in self._forms(model, sound) if form.suffix == suffix), None)
        return super().export_form(model, suffix) if found is None else found

    def _forms(self, model: nn.Module, sound: bool) -> list[ExportForm]:
        inputs = self.example_sounds() if sound else self.example_inputs()
        return [
            ExportForm(
                ("-sound" if sound else "") + depth,
                about,
                SoundNetwork(self.hearing, network) if sound else network,
                inputs,
            )
            for depth, about, network in depths_of(model)
        ]

    # Models

    def build_model(self) -> nn.Module:
        """The network that the recipe asks for, with an output for each word."""
        rows, columns = self.example_inputs().shape[2:]
        shape = Shape.of(self.settings, len(self.classes), rows, columns)
        torch.manual_seed(self.recipe.seed)
        model = build_shape(shape)
        if self.settings.checkpoint is not None:
            load_weights(model, self.settings.checkpoint)
        return labelled(model, shape)

    def build_shape(self, shape: Any) -> nn.Module:
        """A float network of that shape, with random weights."""
        return build_shape(shape)

    def fitted(self, model: nn.Module, stage: ResolvedStage) -> nn.Module:
        """The student, or (a stage without binary layers) its teacher, with the weights that both have."""
        if self.settings.teacher is None:
            return model
        record = self.architecture(model)
        whole = Shape.of(self.settings, record["classes"], record["rows"], record["columns"])
        wanted = whole.of_teacher(self.settings) if stage.binarize is False else whole
        if record == wanted._asdict():
            return model
        torch.manual_seed(self.recipe.seed)
        network = build_shape(wanted)
        take_weights(network, model)
        return labelled(network, wanted)

    def make_module(
        self, model: nn.Module, stage: ResolvedStage, hub: LossHub, teacher: nn.Module | None
    ) -> KeywordsModule:
        """The Lightning module for a stage."""
        weights = (1.0,) if self.settings.thinnable is None else tuple(self.settings.thinnable)
        weights = weights[: getattr(model, "options", 1)]
        return KeywordsModule(model, stage, hub, self.recipe.seed, teacher, self.hearing, weights)

    # The run folder

    def save_assets(self, folder: Path) -> None:
        """Write the example inputs, and what a program needs that feeds the exported network."""
        folder.mkdir(parents=True, exist_ok=True)
        hearing = self.hearing
        examples = {"pictures": self.example_inputs(), "sounds": self.example_sounds()}
        save_file({**examples, "mean": hearing.mean, "std": hearing.std}, folder / "examples.pt")
        facts: dict[str, Any] = {"classes": list(self.classes), "features": self.data.features.model_dump(mode="json")}
        facts |= {"seconds": self.data.seconds, "mean": hearing.mean.tolist(), "std": hearing.std.tolist()}
        write_text(folder / "task.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def load_assets(self, folder: Path) -> None:
        """Read the example inputs, the words, and the statistics of the training set."""
        path = folder / "task.json"
        try:
            self._saved = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise UsageError(f"{path} cannot be read ({problem}): the run's assets are damaged") from None
        found = load_file(folder / "examples.pt")
        self._examples, self._sounds = found["pictures"], found.get("sounds")
        self._hearing = Hearing(self.data.features, found["mean"], found["std"])

    def listen(self, model: nn.Module, settings: Listening, out: Path, console: Console) -> dict[str, Any]:
        """Hear a long recording."""
        return hear_recording(
            model, self.hearing, self.classes, self.data.seconds, lambda: self.prepared, settings, out, console
        )

    def sections(self, model: nn.Module, folder: Path) -> list[Section]:
        """Clips that were taken for other words, the confusion matrix, and notes on the data."""
        part = drawn(self.prepared.dev, _REPORTED, self.recipe.seed)
        pictures, logits, labels = [], [], []
        model.eval()
        with torch.no_grad():
            for batch in sound_loader(part, self.data, self.prepared.noises, self.recipe.seed, train=False):
                pictures.append(self.hearing(batch["sound"]))
                logits.append(model(pictures[-1]).float())
                labels.append(batch["labels"])
        outputs, truth = torch.cat(logits), torch.cat(labels)
        found = [
            Section(
                "Clips taken for other words", contact_sheet(_grey(torch.cat(pictures)), outputs, truth, self.classes)
            ),
            Section("Confusion matrix", confusion_picture(outputs, truth, self.classes)),
        ]
        if self.prepared.notes:
            rows = "".join(f"<li>{html.escape(note)}</li>" for note in self.prepared.notes)
            found.append(Section("Notes on the data", f"<ul>{rows}</ul>"))
        return found


def _grey(pictures: Tensor) -> Tensor:
    """Pictures as uint8, low bands at the bottom, from two deviations below the mean to two above."""
    return ((pictures.flip(2) + 2) / 4 * 255).clamp(0, 255).to(torch.uint8)

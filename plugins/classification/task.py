"""The classification task: any image set with any network."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import RecipeError, UsageError
from bnnapps.losses import LossHub, get_loss
from bnnapps.nn import Thermometer, fit_thermometers
from bnnapps.plugins.classification.augment import Normalize
from bnnapps.plugins.classification.config import ImageData, ImageModel
from bnnapps.plugins.classification.data import Prepared, prepare_images
from bnnapps.plugins.classification.loader import ImageLoader, image_loader
from bnnapps.plugins.classification.model import Shape, build_shape, check_size, load_weights
from bnnapps.plugins.classification.module import ClassificationModule
from bnnapps.plugins.classification.pictures import confusion_picture, contact_sheet
from bnnapps.plugins.classification.sets import drawn
from bnnapps.recipe.schema import Recipe, ResolvedStage
from bnnapps.training.checkpoint import load_file, save_file
from bnnapps.training.folder import write_text
from bnnapps.training.shaped import ShapedTask, labelled
from bnnapps.training.task import Section
from bnnapps.validation import validated

_EXAMPLES = 4
_PLACED = 10_000
"""Thresholds of thermometers are placed by at most so many training images."""
_REPORTED = 2000
"""The pictures of the report are made of at most so many dev images."""


class ClassificationTask(ShapedTask):
    """Any image set with any network."""

    shape = Shape

    monitor = "dev/accuracy"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.data, ImageData)
        assert isinstance(recipe.model, ImageModel)
        self.data, self.settings = recipe.data, recipe.model
        self._prepared: Prepared | None = None
        self._saved: dict[str, Any] | None = None
        self._examples: Tensor | None = None

    # Data

    @property
    def prepared(self) -> Prepared:
        """The images, read on first use."""
        if self._prepared is None:
            self._prepared = prepare_images(self.data, self.recipe.seed)
        return self._prepared

    def prepare(self) -> None:
        """Read the images, or the names of their files."""
        _ = self.prepared

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.prepared.splits.classes if self._saved is None else tuple(self._saved["classes"])

    @property
    def normalize(self) -> Normalize:
        """The last step before the network."""
        if self._saved is None or self._prepared is not None:
            return self.prepared.normalize
        return Normalize(self._saved["mean"], self._saved["std"])

    def describe(self) -> dict[str, Any]:
        """Name, origin and sizes of the data."""
        splits = self.prepared.splits
        found: dict[str, Any] = {"data": splits.description, "train": len(splits.train), "dev": len(splits.dev)}
        found |= {"classes": len(splits.classes), "channels": self.prepared.channels}
        if self.prepared.size is not None:
            found["size"] = self.prepared.size
        if self.prepared.broken:
            found["broken"] = len(self.prepared.broken)
        return found

    def train_loader(self) -> ImageLoader:
        """The training data."""
        return self._loader(self.prepared.splits.train, self.data, train=True)

    def dev_loaders(self) -> list[ImageLoader]:
        """The dev set."""
        return [self._loader(self.prepared.splits.dev, self.data, train=False)]

    def _loader(self, part: Any, settings: ImageData, train: bool) -> ImageLoader:
        data = self.prepared
        size = 0 if data.size is None else data.size
        return image_loader(part, settings, data.normalize, size, self.recipe.seed, data.broken, train)

    def example_inputs(self) -> Tensor:
        """Four images of the dev set; those of the run, where one is opened again."""
        if self._examples is None:
            few = self.data.model_copy(update={"eval_batch_size": _EXAMPLES, "workers": 0})
            batch = next(iter(self._loader(self.prepared.splits.dev, few, train=False)))
            self._examples = self.normalize.undo(batch["images"])
        return self.normalize(self._examples)

    # Models

    def build_model(self) -> nn.Module:
        """The network that the recipe asks for, with an output for each class."""
        shape = Shape.of(self.settings, len(self.classes), self.example_inputs().shape[1])
        torch.manual_seed(self.recipe.seed)
        model = build_shape(shape, self.settings.pretrained)
        if self.settings.checkpoint is not None:
            load_weights(model, self.settings.checkpoint)
        if any(isinstance(module, Thermometer) for module in model.modules()):
            fit_thermometers(model, self._sample())
        check_size(model, shape, self.example_inputs()[:1])
        return labelled(model, shape)

    def _sample(self) -> Tensor:
        """Training images, as the network sees them, that thresholds are placed by."""
        part = drawn(self.prepared.splits.train, _PLACED, self.recipe.seed)
        return torch.cat([batch["images"] for batch in self._loader(part, self.data, train=False)])

    def build_shape(self, shape: Any) -> nn.Module:
        """A float network of that shape, with random weights."""
        return build_shape(shape)

    def named_teacher(self, spec: dict[str, Any]) -> nn.Module:
        """A network of torchvision, timm or this package with published weights or those of a file.

        `spec` has the keys of the recipe's `model`, such as `{torchvision: resnet34, pretrained: true}`.
        """
        settings = validated(ImageModel, spec, "train.teacher", RecipeError)
        if not settings.pretrained and settings.checkpoint is None:
            raise RecipeError(
                f"train.teacher {spec} has random weights: set 'pretrained' to true, or 'checkpoint' to a file"
            )
        shape = Shape.of(settings, len(self.classes), self.example_inputs().shape[1])
        model = build_shape(shape, settings.pretrained, new_head=False)
        if settings.checkpoint is not None:
            load_weights(model, settings.checkpoint, "train.teacher.checkpoint")
        return labelled(model, shape)

    def make_module(
        self, model: nn.Module, stage: ResolvedStage, hub: LossHub, teacher: nn.Module | None
    ) -> ClassificationModule:
        """The Lightning module for a stage."""
        if self.data.mixup > 0:
            hard = [loss.name for loss in stage.losses if not get_loss(loss.name).soft_labels]
            if hard:
                raise RecipeError(
                    f"train, stage '{stage.name}': data.mixup mixes labels, which the loss '{hard[0]}' cannot read: "
                    "set data.mixup to 0, or take another loss"
                )
        return ClassificationModule(
            model,
            stage,
            hub,
            self.recipe.seed,
            teacher,
            len(self.classes),
            self.data.mixup,
            self.settings.channels_last,
        )

    # The run folder

    def save_assets(self, folder: Path) -> None:
        """Write the example inputs, and what a program needs that feeds the exported network."""
        folder.mkdir(parents=True, exist_ok=True)
        examples = self.normalize.undo(self.example_inputs())
        save_file({"images": examples}, folder / "examples.pt")
        facts = {"classes": list(self.classes), "mean": self.normalize.mean, "std": self.normalize.std}
        facts |= {"channels": examples.shape[1], "height": examples.shape[2], "width": examples.shape[3]}
        write_text(folder / "task.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def load_assets(self, folder: Path) -> None:
        """Read the example inputs and the names of the classes."""
        path = folder / "task.json"
        try:
            self._saved = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise UsageError(f"{path} cannot be read ({problem}): the run's assets are damaged") from None
        self._examples = load_file(folder / "examples.pt")["images"]

    def sections(self, model: nn.Module, folder: Path) -> list[Section]:
        """Wrongly classified dev images and the confusion matrix; files that could not be decoded."""
        part = drawn(self.prepared.splits.dev, _REPORTED, self.recipe.seed)
        images, logits, labels = [], [], []
        model.eval()
        with torch.no_grad():
            for batch in self._loader(part, self.data, train=False):
                logits.append(model(batch["images"]).float())
                images.append(self.normalize.undo(batch["images"]))
                labels.append(batch["labels"])
        outputs, truth = torch.cat(logits), torch.cat(labels)
        found = [
            Section("Wrongly classified images", contact_sheet(torch.cat(images), outputs, truth, self.classes)),
            Section("Confusion matrix", confusion_picture(outputs, truth, self.classes)),
        ]
        return found + self._broken_section()

    def _broken_section(self) -> list[Section]:
        broken = self.prepared.broken
        if not broken:
            return []
        rows = "".join(f"<tr><td>{html.escape(str(p))}</td><td>{html.escape(r)}</td></tr>" for p, r in broken.items())
        table = f"<table><thead><tr><th>file</th><th>reason</th></tr></thead><tbody>{rows}</tbody></table>"
        return [Section(f"Left out: {len(broken)} files that cannot be decoded", table)]

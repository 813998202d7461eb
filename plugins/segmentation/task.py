"""The segmentation task: a class for each pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.binarize import is_binarized
from bnnapps.errors import RecipeError, UsageError
from bnnapps.losses import LossHub
from bnnapps.plugins.classification.augment import Normalize
from bnnapps.plugins.segmentation.config import SegmentationData, SegmentationModel
from bnnapps.plugins.segmentation.data import Prepared, prepare_segmentation
from bnnapps.plugins.segmentation.loader import Examples, SegmentationLoader
from bnnapps.plugins.segmentation.metrics import confusion
from bnnapps.plugins.segmentation.model import Shape, build_shape, check_size, load_start
from bnnapps.plugins.segmentation.module import SegmentationModule
from bnnapps.plugins.segmentation.pictures import class_table, confusion_picture, overlay_sheet
from bnnapps.plugins.segmentation.sets import IGNORE, Part, drawn
from bnnapps.recipe.schema import Recipe, ResolvedStage
from bnnapps.training.checkpoint import load_file, save_file
from bnnapps.training.folder import write_text
from bnnapps.training.shaped import ShapedTask, labelled
from bnnapps.training.stages import open_model
from bnnapps.training.task import Section
from bnnapps.validation import validated

_EXAMPLES = 4
_REPORTED = 200
"""The pictures of the report are made of at most so many dev images."""


class SegmentationTask(ShapedTask):
    """A class for each pixel of an image."""

    shape = Shape

    monitor = "dev/miou"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.data, SegmentationData)
        assert isinstance(recipe.model, SegmentationModel)
        self.data, self.settings = recipe.data, recipe.model
        self._prepared: Prepared | None = None
        self._saved: dict[str, Any] | None = None
        self._examples: Tensor | None = None

    # Data

    @property
    def prepared(self) -> Prepared:
        """The images and masks, read on first use."""
        if self._prepared is None:
            self._prepared = prepare_segmentation(self.data, self.recipe.seed)
        return self._prepared

    def prepare(self) -> None:
        """Read the images and masks, or the names of their files."""
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
        splits, size = self.prepared.splits, self.prepared.size
        found: dict[str, Any] = {"data": splits.description, "train": len(splits.train), "dev": len(splits.dev)}
        return found | {"classes": len(splits.classes), "size": f"{size[0]}x{size[1]}"}

    def train_loader(self) -> SegmentationLoader:
        """The training data."""
        examples = Examples(self.prepared.splits.train, self.data, self.prepared.crop, self.recipe.seed)
        return self._loader(examples, self.data.batch_size, shuffle=True)

    def dev_loaders(self) -> list[SegmentationLoader]:
        """The dev set."""
        return [self._dev_loader(self.prepared.splits.dev, self.data.eval_batch_size)]

    def _dev_loader(self, part: Part, batch_size: int) -> SegmentationLoader:
        return self._loader(Examples(part, None, None, self.recipe.seed), batch_size, shuffle=False)

    def _loader(self, examples: Examples, batch_size: int, shuffle: bool) -> SegmentationLoader:
        workers = self.data.workers
        return SegmentationLoader(examples, self.prepared.normalize, batch_size, self.recipe.seed, shuffle, workers)

    def example_inputs(self) -> Tensor:
        """Four images of the dev set; those of the run, where one is opened again."""
        if self._examples is None:
            part = self.prepared.splits.dev
            images = [part.at(i)[0] for i in range(min(_EXAMPLES, len(part)))]
            self._examples = torch.stack(images)
        return self.normalize(self._examples)

    # Models

    def build_model(self) -> nn.Module:
        """The network that the recipe asks for, with a score for each class."""
        shape = Shape.of(self.settings, len(self.classes))
        torch.manual_seed(self.recipe.seed)
        model = build_shape(shape, self.settings.pretrained)
        load_start(model, self.settings)
        check_size(model, shape, self.example_inputs()[:1])
        return labelled(model, shape)

    def build_shape(self, shape: Any) -> nn.Module:
        """A float network of that shape, with random weights."""
        return build_shape(shape)

    def named_teacher(self, spec: dict[str, Any]) -> nn.Module:
        """A network with published weights or those of a file; `spec` has the keys of the recipe's `model`."""
        settings = validated(SegmentationModel, spec, "train.teacher", RecipeError)
        if settings.checkpoint is None and not (settings.pretrained and settings.torchvision is not None):
            raise RecipeError(
                f"train.teacher {spec} has random weights: set 'checkpoint' to a file, or both of 'torchvision' and "
                "'pretrained'"
            )
        shape = Shape.of(settings, len(self.classes))
        model = build_shape(shape, settings.pretrained)
        load_start(model, settings)
        return labelled(model, shape)

    def make_module(
        self, model: nn.Module, stage: ResolvedStage, hub: LossHub, teacher: nn.Module | None
    ) -> SegmentationModule:
        """The Lightning module for a stage."""
        last = self.settings.channels_last
        return SegmentationModule(model, stage, hub, self.recipe.seed, teacher, self.classes, last)

    # The run folder

    def save_assets(self, folder: Path) -> None:
        """Write the example inputs, and what a program needs that feeds the exported network."""
        folder.mkdir(parents=True, exist_ok=True)
        examples = self.normalize.undo(self.example_inputs())
        save_file({"images": examples}, folder / "examples.pt")
        facts = {"classes": list(self.classes), "mean": self.normalize.mean, "std": self.normalize.std}
        facts |= {"channels": 3, "height": examples.shape[2], "width": examples.shape[3], "ignore": IGNORE}
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
        """Masks laid over dev images, from the worst to the best; the overlap of each class; the confusion matrix."""
        part = drawn(self.prepared.splits.dev, _REPORTED, self.recipe.seed)
        guesses, each = self._predicted(model, part)
        hits = each.diagonal(dim1=1, dim2=2).sum(1) / each.sum((1, 2)).clamp(min=1)
        order = hits.argsort(stable=True).tolist()
        chosen = sorted({round(i * (len(order) - 1) / 5) for i in range(6)})
        shown = [order[i] for i in chosen]
        pairs = [part.at(i) for i in shown]
        found = {"binary" if is_binarized(model) else "network": [guesses[i] for i in shown]}
        other = self._float_stage(folder) if is_binarized(model) else None
        if other is not None:
            found = {"float": self._predicted(other, part.take(shown))[0], **found}
        sheet = overlay_sheet([p[0] for p in pairs], [p[1] for p in pairs], found, self.classes)
        matrix = each.sum(0)
        return [
            Section("Masks, from the worst dev image to the best", sheet),
            Section("Overlap of each class", class_table(matrix, self.classes, len(part))),
            Section("Confusion of pixels", confusion_picture(matrix, self.classes)),
        ]

    def _predicted(self, model: nn.Module, part: Part) -> tuple[list[Tensor], Tensor]:
        """The predicted masks of a set, and the confusion matrix of each image."""
        guesses: list[Tensor] = []
        matrices = []
        model.eval()
        with torch.no_grad():
            for batch in self._dev_loader(part, self.data.eval_batch_size):
                guess = model(batch["images"]).argmax(dim=1)
                guesses += guess.to(torch.uint8).unbind()
                matrices.append(confusion(guess, batch["masks"], len(self.classes)))
        return guesses, torch.cat(matrices)

    def _float_stage(self, folder: Path) -> nn.Module | None:
        """The network of the run's last float stage, if it has one."""
        stages = [path for path in folder.glob("stages/*/model.ckpt") if not (path.parent / "plan.json").exists()]
        if not stages:
            return None
        last = max(stages, key=lambda path: int(path.parent.name.partition("-")[0]))
        return open_model(self, last)

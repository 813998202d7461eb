"""The task of clouds of points: their class, the part of each point, or the class of each point of a scene."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.binarize import is_binarized
from bnnapps.errors import RecipeError, UsageError
from bnnapps.losses import LossHub
from bnnapps.plugins.classification.model import load_weights
from bnnapps.plugins.pointclouds.config import CloudModel
from bnnapps.plugins.pointclouds.data import prepare_clouds
from bnnapps.plugins.pointclouds.data_config import CloudData
from bnnapps.plugins.pointclouds.loader import CloudLoader, Examples
from bnnapps.plugins.pointclouds.metrics import restricted
from bnnapps.plugins.pointclouds.model import Shape, build_shape, check_points
from bnnapps.plugins.pointclouds.module import CloudModule
from bnnapps.plugins.pointclouds.pictures import class_table, cloud_viewer, confusion_picture, viewer_script
from bnnapps.plugins.pointclouds.sets import CloudSet, Splits, drawn
from bnnapps.recipe.schema import Recipe, ResolvedStage
from bnnapps.training.checkpoint import load_file, save_file
from bnnapps.training.folder import write_text
from bnnapps.training.shaped import ShapedTask, labelled
from bnnapps.training.stages import open_model
from bnnapps.training.task import Section
from bnnapps.validation import validated

_EXAMPLES = 4
_REPORTED = 400
"""The pictures of the report are made of at most so many dev clouds."""
_SHOWN = {"class": 12, "parts": 5, "scene": 5}
_MONITORS = {"class": "dev/accuracy", "parts": "dev/instance_miou", "scene": "dev/miou"}


class CloudTask(ShapedTask):
    """Classes of clouds of points, or of their points."""

    shape = Shape

    monitor = "dev/accuracy"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.data, CloudData)
        assert isinstance(recipe.model, CloudModel)
        self.data, self.settings = recipe.data, recipe.model
        self.monitor = _MONITORS[self.data.wanted]
        self._splits: Splits | None = None
        self._saved: dict[str, Any] | None = None
        self._examples: Tensor | None = None

    # Data

    @property
    def splits(self) -> Splits:
        """The clouds, read on first use."""
        if self._splits is None:
            self._splits = prepare_clouds(self.data, self.recipe.seed)
        return self._splits

    def prepare(self) -> None:
        """Read the clouds."""
        _ = self.splits

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of what the labels count."""
        return self.splits.classes if self._saved is None else tuple(self._saved["classes"])

    def describe(self) -> dict[str, Any]:
        """Name, origin and sizes of the data."""
        splits = self.splits
        found: dict[str, Any] = {"data": splits.description, "train": len(splits.train), "dev": len(splits.dev)}
        return found | {"classes": len(splits.classes), "points": self.data.points, "target": self.data.wanted}

    def train_loader(self) -> CloudLoader:
        """The training data."""
        examples = Examples(self.splits.train, self.data, self.recipe.seed, training=True)
        return CloudLoader(examples, self.data.batch_size, self.recipe.seed, shuffle=True, workers=self.data.workers)

    def dev_loaders(self) -> list[CloudLoader]:
        """The dev set."""
        return [self._dev_loader(self.splits.dev)]

    def _dev_loader(self, part: CloudSet) -> CloudLoader:
        examples = Examples(part, self.data, self.recipe.seed, training=False)
        return CloudLoader(examples, self.data.eval_batch_size, self.recipe.seed, shuffle=False)

    def example_inputs(self) -> Tensor:
        """Four clouds of the dev set; those of the run, where one is opened again."""
        if self._examples is None:
            part = self.splits.dev
            clouds = [part.at(i, self.data.points)[0] for i in range(min(_EXAMPLES, len(part)))]
            self._examples = torch.stack(clouds)
        return self._examples

    # Models

    def build_model(self) -> nn.Module:
        """The network that the recipe asks for, with a score for each class."""
        points = self.example_inputs()
        shape = Shape.of(self.settings, self.data.wanted, len(self.classes), points.shape[2])
        torch.manual_seed(self.recipe.seed)
        model = build_shape(shape)
        if self.settings.checkpoint is not None:
            load_weights(model, self.settings.checkpoint)
        check_points(model, shape, points)
        return labelled(model, shape)

    def build_shape(self, shape: Any) -> nn.Module:
        """A float network of that shape, with random weights."""
        return build_shape(shape)

    def named_teacher(self, spec: dict[str, Any]) -> nn.Module:
        """A network with the weights of a file; `spec` has the keys of the recipe's `model`."""
        settings = validated(CloudModel, spec, "train.teacher", RecipeError)
        if settings.checkpoint is None:
            raise RecipeError(f"train.teacher {spec} has random weights: set 'checkpoint' to a file")
        shape = Shape.of(settings, self.data.wanted, len(self.classes), self.example_inputs().shape[2])
        model = build_shape(shape)
        load_weights(model, settings.checkpoint)
        return labelled(model, shape)

    def make_module(
        self, model: nn.Module, stage: ResolvedStage, hub: LossHub, teacher: nn.Module | None
    ) -> CloudModule:
        """The Lightning module for a stage."""
        return CloudModule(
            model, stage, hub, self.recipe.seed, teacher, self.data.wanted, self.classes, self.splits.parts
        )

    # The run folder

    def save_assets(self, folder: Path) -> None:
        """Write the example inputs, and what a program needs that feeds the exported network."""
        folder.mkdir(parents=True, exist_ok=True)
        examples = self.example_inputs()
        save_file({"points": examples}, folder / "examples.pt")
        facts: dict[str, Any] = {"classes": list(self.classes), "target": self.data.wanted}
        facts |= {"points": examples.shape[1], "channels": examples.shape[2]}
        facts["unit_sphere"] = self.data.wanted != "scene"
        write_text(folder / "task.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def load_assets(self, folder: Path) -> None:
        """Read the example inputs and the names of the classes."""
        path = folder / "task.json"
        try:
            self._saved = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise UsageError(f"{path} cannot be read ({problem}): the run's assets are damaged") from None
        self._examples = load_file(folder / "examples.pt")["points"]

    def sections(self, model: nn.Module, folder: Path) -> list[Section]:
        """Dev clouds to turn about with the mouse, what each network says of them, and the confusion matrix."""
        part = drawn(self.splits.dev, _REPORTED, self.recipe.seed)
        logits, labels = self._predicted(model, part)
        guesses = logits.argmax(dim=-1)
        matrix = torch.zeros(len(self.classes), len(self.classes), dtype=torch.long)
        matrix.index_put_((labels.flatten(), guesses.flatten()), torch.ones(1, dtype=torch.long), accumulate=True)
        chosen = self._chosen(guesses, labels)
        few = part.take(chosen)
        found = {"binary" if is_binarized(model) else "network": logits[chosen]}
        other = self._float_stage(folder) if is_binarized(model) else None
        if other is not None:
            found = {"float": self._predicted(other, few)[0], **found}
        points = [few.at(i, self.data.points)[0] for i in range(len(few))]
        viewer = cloud_viewer(points, [labels[i] for i in chosen], found, self.classes)
        sections = [Section("Clouds of the dev set", viewer, viewer_script())]
        if self.data.wanted != "class":
            sections.append(Section("Overlap of each class", class_table(matrix, self.classes)))
        unit = "clouds" if self.data.wanted == "class" else "points"
        picture = confusion_picture(matrix, self.classes, unit)
        return [*sections, Section(f"Confusion of {unit}", picture)] if picture else sections

    def _chosen(self, guesses: Tensor, labels: Tensor) -> list[int]:
        """Clouds to show: half of them badly predicted ones, as far as there are, the rest spread over the set."""
        right = (guesses == labels).double()
        right = right if right.dim() == 1 else right.mean(dim=1)
        order = right.argsort(stable=True).tolist()
        shown = _SHOWN[self.data.wanted]
        bad = [i for i in order[: shown // 2] if right[i] < 1]
        others = [i for i in order if i not in bad]
        step = max(1, len(others) // max(1, shown - len(bad)))
        return (bad + others[::step])[:shown]

    def _predicted(self, model: nn.Module, part: CloudSet) -> tuple[Tensor, Tensor]:
        """Scores and labels of a set; of parts only those of a cloud's category."""
        scores, labels = [], []
        model.eval()
        with torch.no_grad():
            for batch in self._dev_loader(part):
                found = model(batch["points"])
                if self.data.wanted == "parts":
                    found = restricted(found, batch["categories"], self.splits.parts)
                scores.append(found)
                labels.append(batch["labels"])
        return torch.cat(scores), torch.cat(labels)

    def _float_stage(self, folder: Path) -> nn.Module | None:
        """The network of the run's last float stage, if it has one."""
        stages = [path for path in folder.glob("stages/*/model.ckpt") if not (path.parent / "plan.json").exists()]
        if not stages:
            return None
        last = max(stages, key=lambda path: int(path.parent.name.partition("-")[0]))
        return open_model(self, last)

"""The detection task: any set of images with boxes, any detector."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.binarize import is_binarized
from bnnapps.errors import BnnappsError, RecipeError, UsageError
from bnnapps.losses import LossHub
from bnnapps.plugins.detection.config import DetectorModel
from bnnapps.plugins.detection.curves import precision_recall_picture
from bnnapps.plugins.detection.data import prepare_detection
from bnnapps.plugins.detection.data_config import DetectionData
from bnnapps.plugins.detection.loader import detection_loader
from bnnapps.plugins.detection.metrics import Boxes
from bnnapps.plugins.detection.model import Shape, build_detector, build_shape, check_runs
from bnnapps.plugins.detection.module import DetectionModule, metrics_of
from bnnapps.plugins.detection.pictures import MOST_IMAGES, detection_sheet
from bnnapps.plugins.detection.recorder import KNOWN, recorder_of
from bnnapps.plugins.detection.sets import BoxCounts, Prepared
from bnnapps.recipe.schema import Recipe, ResolvedStage
from bnnapps.training.checkpoint import load_file, save_file
from bnnapps.training.folder import RunFolder, write_text
from bnnapps.training.loader import EpochLoader
from bnnapps.training.shaped import ShapedTask, labelled
from bnnapps.training.stages import StageModels, stage_rules
from bnnapps.training.task import Section
from bnnapps.validation import validated

_EXAMPLES = 4
_REPORTED = 500
"""The curves of the report are made of at most so many dev images."""


class DetectionTask(ShapedTask):
    """Any set of images with boxes, any detector."""

    shape = Shape

    monitor = "dev/map50"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.data, DetectionData)
        assert isinstance(recipe.model, DetectorModel)
        self.data, self.settings = recipe.data, recipe.model
        self._prepared: Prepared | None = None
        self._saved: dict[str, Any] | None = None
        self._examples: list[Tensor] | None = None

    # Data

    @property
    def prepared(self) -> Prepared:
        """The images and their boxes, read on first use."""
        if self._prepared is None:
            self._prepared = prepare_detection(self.data, self.recipe.seed)
        return self._prepared

    def prepare(self) -> None:
        """Read the annotations."""
        _ = self.prepared

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 1 to C."""
        return self.prepared.classes if self._saved is None else tuple(self._saved["classes"])

    def describe(self) -> dict[str, Any]:
        """Name, origin and sizes of the data; boxes that were dropped or cut."""
        data = self.prepared
        found: dict[str, Any] = {"data": data.description, "train": len(data.train), "dev": len(data.dev)}
        found["classes"] = len(data.classes)
        found["boxes"] = data.train_counts.boxes + data.dev_counts.boxes
        both = data.train_counts + data.dev_counts
        found |= {name: count for name, count in _unusual(both).items() if count}
        if data.broken:
            found["broken"] = len(data.broken)
        return found

    def train_loader(self) -> EpochLoader:
        """The training data."""
        return self._loader(self.prepared.train, self.data, train=True)

    def dev_loaders(self) -> list[EpochLoader]:
        """The dev set."""
        return [self._loader(self.prepared.dev, self.data, train=False)]

    def _loader(self, part: Any, settings: DetectionData, train: bool) -> EpochLoader:
        return detection_loader(part, settings, self.recipe.seed, train, self.prepared.broken)

    def example_inputs(self) -> tuple[list[Tensor]]:
        """A list of images of the dev set, as one argument; those of the run, where one is opened again."""
        if self._examples is None:
            few = self.data.model_copy(update={"eval_batch_size": _EXAMPLES, "workers": 0})
            self._examples = next(iter(self._loader(self.prepared.dev, few, train=False)))["images"]
        return (list(self._examples),)

    # Models

    def build_model(self) -> nn.Module:
        """The detector that the recipe asks for."""
        torch.manual_seed(self.recipe.seed)
        model, shape = build_detector(self.settings, len(self.classes))
        check_runs(model, shape, self.example_inputs()[0][0])
        return labelled(model, shape)

    def build_shape(self, shape: Any) -> nn.Module:
        """A float network of that shape, with random weights."""
        return build_shape(shape)

    def named_teacher(self, spec: dict[str, Any]) -> nn.Module:
        """A detector with published weights or those of a file.

        `spec` has the keys of the recipe's `model`, such as `{torchvision: ssd300_vgg16, checkpoint: FILE}`.
        """
        settings = validated(DetectorModel, spec, "train.teacher", RecipeError)
        if not settings.pretrained and settings.checkpoint is None:
            raise RecipeError(
                f"train.teacher {spec} has random weights: set 'pretrained' to true, or 'checkpoint' to a file"
            )
        model, shape = build_detector(settings, len(self.classes))
        return labelled(model, shape)

    def make_module(
        self, model: nn.Module, stage: ResolvedStage, hub: LossHub, teacher: nn.Module | None
    ) -> DetectionModule:
        """The Lightning module for a stage."""
        return DetectionModule(model, stage, hub, self.recipe.seed, teacher, self.classes)

    def lacks(self, model: nn.Module, extra: str) -> str | None:
        """What is watched differs from detector to detector; only those of two stages propose regions."""
        has = recorder_of(model, KNOWN).wanted
        return None if extra in has else f"needs '{extra}', and this detector has {', '.join(has)}"

    # The run folder

    def save_assets(self, folder: Path) -> None:
        """Write the example images, and what a program needs that feeds the exported detector."""
        folder.mkdir(parents=True, exist_ok=True)
        images = self.example_inputs()[0]
        save_file({"images": [(i * 255).round().to(torch.uint8) for i in images]}, folder / "examples.pt")
        facts = {"classes": list(self.classes), "size": self.data.size, "resize": self.data.resize}
        write_text(folder / "task.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def load_assets(self, folder: Path) -> None:
        """Read the example images and the names of the classes."""
        path = folder / "task.json"
        try:
            self._saved = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise UsageError(f"{path} cannot be read ({problem}): the run's assets are damaged") from None
        self._examples = [image.float() / 255 for image in load_file(folder / "examples.pt")["images"]]

    def sections(self, model: nn.Module, folder: Path) -> list[Section]:
        """Detections drawn on dev images, float beside binary; precision against recall; what was dropped."""
        networks = {"binary" if is_binarized(model) else "float": model}
        if is_binarized(model):
            real = self._float_model(folder)
            networks = networks if real is None else {"float": real, **networks}
        first = self.prepared.dev.take(range(min(_REPORTED, len(self.prepared.dev))))
        images: list[Tensor] = []
        targets: list[Boxes] = []
        found: dict[str, list[Boxes]] = {name: [] for name in networks}
        for batch in self._loader(first, self.data, train=False):
            images += batch["images"][: max(0, MOST_IMAGES - len(images))]
            targets += batch["targets"]
            for name, network in networks.items():
                with torch.no_grad():
                    found[name] += network.eval()(batch["images"])
        curves = {name: metrics_of(each, targets, self.classes).curves() for name, each in found.items()}
        return [
            Section("Detections", detection_sheet(images, targets, found, self.classes)),
            Section("Precision and recall", precision_recall_picture(curves)),
            *self._data_section(),
        ]

    def _float_model(self, folder: Path) -> nn.Module | None:
        """The float detector of the run, if it trained one or had one as its teacher."""
        stages = self.recipe.train.resolved()
        models = StageModels(self, stages, RunFolder(folder))
        names = [stage.name for stage in stages if stage_rules(self.recipe, stage) is None]
        teachers = [s.teacher for s in stages if isinstance(s.teacher, str) and s.teacher not in names]
        for source in [*names[::-1], *teachers[::-1]]:
            path = models.path(source)
            try:
                found = models.open(path)
            except (BnnappsError, OSError):  # a teacher of another run that has gone, or one for other classes
                continue
            if not is_binarized(found):
                return found
        return None

    def _data_section(self) -> list[Section]:
        data = self.prepared
        rows = [f"{name}: {count}" for name, count in _unusual(data.train_counts + data.dev_counts).items() if count]
        rows += [*data.notes, *(f"{path}: {reason}" for path, reason in data.broken.items())]
        if not rows:
            return []
        items = "".join(f"<li>{html.escape(row)}</li>" for row in rows)
        return [Section("Unusual in the data", f"<ul>{items}</ul>")]


def _unusual(counts: BoxCounts) -> dict[str, int]:
    return {
        "boxes cut at the border": counts.clipped,
        "boxes without area, dropped": counts.zero_area,
        "boxes outside the image, dropped": counts.outside,
    }

"""The Lightning module of detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.losses import LossHub, LossInputs, Outputs

# Importing them makes their losses known to recipes.
from bnnapps.plugins.detection import distillation, losses  # noqa: F401
from bnnapps.plugins.detection.metrics import Boxes, DetectionMetrics
from bnnapps.plugins.detection.recorder import recorder_of
from bnnapps.recipe.schema import ResolvedStage
from bnnapps.training.module import BinaryModule

_LEARNED_FROM = ("boxes", "labels")


class DetectionModule(BinaryModule):
    """A detector that learns boxes, from annotations, and where a loss asks for it from a teacher too."""

    def __init__(
        self,
        model: nn.Module,
        stage: ResolvedStage,
        hub: LossHub,
        seed: int,
        teacher: nn.Module | None,
        classes: Sequence[str],
    ) -> None:
        super().__init__(model, stage, hub, seed, teacher)
        self.classes = tuple(classes)
        # Hooks and what they hold are no state.
        self.__dict__["recorder"] = recorder_of(model, hub.extras)
        compared = sorted({extra for t in hub.terms if t.loss.needs_teacher for extra in t.loss.extras})
        self.__dict__["teacher_recorder"] = None if teacher is None else recorder_of(teacher, compared)

    def loss_inputs(self, batch: dict[str, Any]) -> LossInputs:
        """Run the student on a batch, and the teacher where a loss that counts may read it."""
        images = batch["images"]
        targets = [{key: target[key] for key in _LEARNED_FROM} for target in batch["targets"]]
        recorder: Any = self.__dict__["recorder"]
        with recorder:
            own: Mapping[str, Tensor] = self.model(images, targets)
        student = Outputs(losses=own, extras=recorder.extras())
        teacher = None
        watched: Any = self.__dict__["teacher_recorder"]
        if self.teacher is not None and self.hub.needs_teacher:
            with torch.no_grad(), watched:
                self.teacher(images, targets)
            teacher = Outputs(extras=watched.extras())
        return LossInputs(student=student, teacher=teacher)

    def predict(self, batch: dict[str, Any]) -> tuple[list[Boxes], list[Boxes]]:
        """Detections and annotations of a batch of the dev set, one of each an image."""
        found = self.model(batch["images"])
        return [_on_cpu(d) for d in found], [_on_cpu(t) for t in batch["targets"]]

    def metrics(self, outputs: list[Boxes], labels: list[Boxes], loader: int) -> Mapping[str, float]:
        """Mean average precision by VOC's and COCO's rules, and false positives an image (`DetectionMetrics`)."""
        return metrics_of(outputs, labels, self.classes).compute()


def metrics_of(outputs: Sequence[Boxes], labels: Sequence[Boxes], classes: Sequence[str]) -> DetectionMetrics:
    """The metrics that have seen these images."""
    found = DetectionMetrics(classes)
    found.update(outputs, labels)
    return found


def _on_cpu(boxes: Boxes) -> Boxes:
    return {name: value.detach().cpu() for name, value in boxes.items()}

"""The Lightning module of image classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.losses import LossHub, LossInputs, Outputs
from bnnapps.plugins.classification.metrics import compute
from bnnapps.plugins.classification.mixing import mixup
from bnnapps.plugins.classification.taps import STAGES, stage_names
from bnnapps.recipe.schema import ResolvedStage
from bnnapps.training.module import BinaryModule
from bnnapps.training.taps import Taps


class ClassificationModule(BinaryModule):
    """A network that learns classes of images, from labels, from a teacher, or from both."""

    def __init__(
        self,
        model: nn.Module,
        stage: ResolvedStage,
        hub: LossHub,
        seed: int,
        teacher: nn.Module | None,
        classes: int,
        mixup_alpha: float,
        channels_last: bool = False,
    ) -> None:
        super().__init__(model, stage, hub, seed, teacher)
        self.classes, self.mixup_alpha = classes, mixup_alpha
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        for network in (model, teacher):
            if network is not None and channels_last:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Outside the module tree: taps hold activations, not state.
        self.__dict__["student_taps"] = _taps(model, hub.taps)
        self.__dict__["teacher_taps"] = None if teacher is None else _taps(teacher, hub.taps)

    student_taps: Taps
    teacher_taps: Taps | None

    def loss_inputs(self, batch: dict[str, Tensor]) -> LossInputs:
        """Run student and teacher on a batch, mixed if the recipe says so."""
        images, labels = batch["images"].to(memory_format=self.layout), batch["labels"]
        if self.mixup_alpha > 0 and self.training:
            images, labels = mixup(images, labels, self.classes, self.mixup_alpha)
        student = Outputs(self.model(images), self.student_taps.features)
        teacher = None
        if self.teacher is not None and self.teacher_taps is not None:
            with torch.no_grad():
                logits = self.teacher(images)
            teacher = Outputs(logits, self.teacher_taps.features)
        return LossInputs(student=student, teacher=teacher, labels=labels)

    def predict(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits and labels of a batch of the dev set."""
        images = batch["images"].to(memory_format=self.layout)
        return self.model(images).float().cpu(), batch["labels"].cpu()

    def metrics(self, outputs: Tensor, labels: Tensor, loader: int) -> Mapping[str, float]:
        """Accuracy, top-5 accuracy and loss."""
        return compute(outputs, labels)

    def on_fit_end(self) -> None:
        """Take the taps off again."""
        for taps in (self.student_taps, self.teacher_taps):
            if taps is not None:
                taps.remove()
                taps.clear()


def _taps(network: nn.Module, wanted: tuple[str, ...]) -> Taps:
    names: dict[str, Any] = {STAGES: stage_names(network)} if STAGES in wanted else {}
    return Taps(network, names).attach()

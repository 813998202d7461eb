"""The Lightning module of the text task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.losses import LossHub, LossInputs, Outputs
from bnnapps.plugins.text.encoder import heads_of
from bnnapps.plugins.text.glue import GlueTask
from bnnapps.plugins.text.metrics import compute
from bnnapps.recipe.schema import ResolvedStage
from bnnapps.training.module import BinaryModule
from bnnapps.training.taps import Taps, hugging_face_taps


class TextModule(BinaryModule):
    """An encoder that learns a GLUE task, from labels, from a teacher, or from both."""

    def __init__(
        self,
        model: nn.Module,
        stage: ResolvedStage,
        hub: LossHub,
        seed: int,
        teacher: nn.Module | None,
        task: GlueTask,
    ) -> None:
        super().__init__(model, stage, hub, seed, teacher)
        self.glue = task
        wanted = hub.taps
        # Outside the module tree: taps hold activations, not state.
        self.__dict__["student_taps"] = _taps(model, wanted)
        self.__dict__["teacher_taps"] = None if teacher is None else _taps(teacher, wanted)
        self.student_heads = heads_of(model)
        self.teacher_heads = None if teacher is None else heads_of(teacher)

    student_taps: Taps
    teacher_taps: Taps | None

    def loss_inputs(self, batch: dict[str, Any]) -> LossInputs:
        """Run student and teacher on a batch."""
        inputs = {k: v for k, v in batch.items() if k != "labels"}
        student = Outputs(self.model(**inputs).logits, self.student_taps.features, self.student_heads)
        teacher = None
        if self.teacher is not None and self.teacher_taps is not None:
            with torch.no_grad():
                logits = self.teacher(**inputs).logits
            teacher = Outputs(logits, self.teacher_taps.features, self.teacher_heads)
        return LossInputs(
            student=student,
            teacher=teacher,
            labels=batch["labels"],
            mask=batch["attention_mask"],
            task="regression" if self.glue.regression else "classification",
        )

    def predict(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Logits and labels of a batch of the dev set."""
        logits = self.model(**{k: v for k, v in batch.items() if k != "labels"}).logits
        return logits.float().cpu(), batch["labels"].cpu()

    def metrics(self, outputs: Tensor, labels: Tensor, loader: int) -> Mapping[str, float]:
        """GLUE's own metrics; those of further dev sets carry the set's name."""
        found = compute(self.glue, outputs, labels)
        if loader == 0:
            return found
        return {f"{name}_{self.glue.dev[loader].removeprefix('dev_')}": value for name, value in found.items()}

    def on_fit_end(self) -> None:
        """Take the taps off again."""
        for taps in (self.student_taps, self.teacher_taps):
            if taps is not None:
                taps.remove()
                taps.clear()


def _taps(model: nn.Module, wanted: tuple[str, ...]) -> Taps:
    names = hugging_face_taps(model) if wanted else {}
    return Taps(model, {tap: names[tap] for tap in wanted if tap in names}).attach()

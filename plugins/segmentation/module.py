"""The Lightning module of semantic segmentation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.losses import LossHub, LossInputs, Outputs
from bnnapps.plugins.segmentation.metrics import compute, confusion, pixel_loss
from bnnapps.plugins.segmentation.sets import IGNORE
from bnnapps.recipe.schema import ResolvedStage
from bnnapps.training.module import BinaryModule
from bnnapps.training.taps import Taps

_LEFT_OUT = -100
"""How losses know what does not count."""
_STAGES = "stages"
_STAGE = re.compile(r"(.*\.)?layer\d+")


class SegmentationModule(BinaryModule):
    """A network that learns the class of each pixel, from masks, from a teacher, or from both."""

    def __init__(
        self,
        model: nn.Module,
        stage: ResolvedStage,
        hub: LossHub,
        seed: int,
        teacher: nn.Module | None,
        classes: Sequence[str],
        channels_last: bool = False,
    ) -> None:
        super().__init__(model, stage, hub, seed, teacher)
        self.classes = tuple(classes)
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
        """Run student and teacher on a batch; logits are (N, H, W, classes), as losses take them."""
        images = batch["images"].to(memory_format=self.layout)
        masks = batch["masks"]
        labels = torch.where(masks == IGNORE, _LEFT_OUT, masks)
        student = Outputs(self.model(images).movedim(1, -1), self.student_taps.features)
        teacher = None
        if self.teacher is not None and self.teacher_taps is not None:
            with torch.no_grad():
                logits = self.teacher(images)
            teacher = Outputs(logits.movedim(1, -1), self.teacher_taps.features)
        return LossInputs(student=student, teacher=teacher, labels=labels)

    def predict(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The confusion matrix of each image of the batch, and its summed loss with the number of its pixels."""
        logits = self.model(batch["images"].to(memory_format=self.layout)).float()
        found = confusion(logits.argmax(dim=1), batch["masks"], len(self.classes))
        return found.cpu(), pixel_loss(logits, batch["masks"]).cpu()

    def metrics(self, outputs: Tensor, labels: Tensor, loader: int) -> Mapping[str, float]:
        """Mean IoU, pixel accuracy, loss, and the IoU of each class."""
        return compute(outputs.sum(0), labels.sum(0), self.classes)

    def on_fit_end(self) -> None:
        """Take the taps off again."""
        for taps in (self.student_taps, self.teacher_taps):
            if taps is not None:
                taps.remove()
                taps.clear()


def _taps(network: nn.Module, wanted: tuple[str, ...]) -> Taps:
    names: dict[str, Any] = {}
    if _STAGES in wanted:
        names[_STAGES] = [name for name, _ in network.named_modules() if _STAGE.fullmatch(name)]
        if not names[_STAGES]:
            raise UsageError(
                f"{type(network).__name__} has no stages that a loss on attention maps could compare: expected modules "
                "'layer1', 'layer2' and so on"
            )
    return Taps(network, names).attach()

"""The Lightning module of clouds of points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.losses import LossHub, LossInputs, Outputs
from bnnapps.plugins.pointclouds.data_config import Target
from bnnapps.plugins.pointclouds.losses import TRANSFORMS
from bnnapps.plugins.pointclouds.metrics import (
    check_finite,
    cloud_confusion,
    of_classes,
    of_parts,
    of_scene,
    restricted,
)
from bnnapps.recipe.schema import ResolvedStage
from bnnapps.training.module import BinaryModule
from bnnapps.training.taps import Taps


class CloudModule(BinaryModule):
    """A network that learns classes of clouds or of points, from labels, from a teacher, or from both."""

    def __init__(
        self,
        model: nn.Module,
        stage: ResolvedStage,
        hub: LossHub,
        seed: int,
        teacher: nn.Module | None,
        target: Target,
        classes: tuple[str, ...],
        parts: tuple[tuple[int, ...], ...],
    ) -> None:
        super().__init__(model, stage, hub, seed, teacher)
        self.target, self.classes, self.parts = target, classes, parts
        # Outside the module tree: taps hold activations, not state.
        self.__dict__["taps"] = _taps(model, hub.taps)

    taps: Taps

    def loss_inputs(self, batch: dict[str, Tensor]) -> LossInputs:
        """Run student and teacher on a batch; scores have their classes last, as losses take them."""
        student = Outputs(self.model(batch["points"]), self.taps.features)
        teacher = None
        if self.teacher is not None:
            with torch.no_grad():
                teacher = Outputs(self.teacher(batch["points"]))
        return LossInputs(student=student, teacher=teacher, labels=batch["labels"])

    def predict(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores and labels; for points the confusion matrix of each cloud, and its category with its summed loss."""
        logits = self.model(batch["points"]).float().cpu()
        labels, kinds = batch["labels"].cpu(), batch["categories"].cpu()
        if self.target == "class":
            return logits, labels
        check_finite(logits)
        own = restricted(logits, kinds, self.parts) if self.target == "parts" else logits
        matrices = cloud_confusion(own.argmax(dim=-1), labels, len(self.classes))
        loss = F.cross_entropy(logits.movedim(-1, 1), labels, reduction="none").double().mean(dim=1)
        return matrices, torch.stack([kinds.double(), loss], dim=1)

    def metrics(self, outputs: Tensor, labels: Tensor, loader: int) -> Mapping[str, float]:
        """Accuracy of clouds, overlap of parts, or overlap of classes of points; and the loss."""
        if self.target == "class":
            return of_classes(outputs, labels)
        loss = {"loss": float(labels[:, 1].mean())}
        if self.target == "parts":
            return of_parts(outputs, labels[:, 0].long(), self.parts) | loss
        return of_scene(outputs.sum(0), self.classes) | loss

    def on_fit_end(self) -> None:
        """Take the taps off again."""
        self.taps.remove()
        self.taps.clear()


def _taps(network: nn.Module, wanted: tuple[str, ...]) -> Taps:
    names: dict[str, Any] = {}
    for tap in wanted:
        if tap != TRANSFORMS:
            raise UsageError(
                f"the task 'pointclouds' has no tap '{tap}', which a loss of the recipe reads: drop that loss"
            )
        names[tap] = [name for name, _ in network.named_modules() if name.endswith("feature_transform")]
        if not names[tap]:
            raise UsageError(
                f"{type(network).__name__} has no feature transform, which the loss 'orthogonal_transform' is about: "
                "drop the loss, or set model.options.transforms to true"
            )
    return Taps(network, names).attach()

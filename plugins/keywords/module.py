"""The Lightning module of keyword spotting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.losses import LossHub, LossInputs, Outputs
from bnnapps.plugins.classification.metrics import compute

# Importing them makes their losses known to recipes.
from bnnapps.plugins.keywords import losses as _losses  # noqa: F401
from bnnapps.plugins.keywords.dfsmn import at_option
from bnnapps.plugins.keywords.hearing import Hearing
from bnnapps.plugins.keywords.losses import LAYERS
from bnnapps.plugins.keywords.model import layer_names
from bnnapps.recipe.schema import ResolvedStage
from bnnapps.training.module import BinaryModule
from bnnapps.training.taps import Taps


class KeywordsModule(BinaryModule):
    """A network that learns words, at one depth or at several together.

    With the weights w_0, w_1, ... the loss of a batch is the sum of w_o L_o, where L_o is the whole loss with the
    network at option o (BiFSMN, Qin et al., IJCAI 2022: 1, 0.5, 0.25). The teacher runs once a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        stage: ResolvedStage,
        hub: LossHub,
        seed: int,
        teacher: nn.Module | None,
        hearing: Hearing,
        weights: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__(model, stage, hub, seed, teacher)
        self.weights = tuple(weights)
        # Outside the module tree: neither is state of the network.
        self.__dict__["hearing"] = hearing
        self.__dict__["student_taps"] = [_taps(model, hub.taps, option) for option in range(len(self.weights))]
        self.__dict__["teacher_taps"] = None if teacher is None else _taps(teacher, hub.taps)
        self._teacher_outputs: Outputs | None = None

    hearing: Hearing
    student_taps: list[Taps]
    teacher_taps: Taps | None

    def on_fit_start(self) -> None:
        """Move teacher and features to where the student is."""
        super().on_fit_start()
        self.hearing.to(self.device)

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        heard = {"pictures": self.hearing(batch["sound"]), "labels": batch["labels"]}
        self._teacher_outputs = self._of_teacher(heard["pictures"])
        totals: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        for option, weight in enumerate(self.weights):
            with at_option(self.model, option):
                total, found = super()._loss(heard)
            totals.append(weight * total)
            terms |= {name if option == 0 else f"{name}_option{option}": value for name, value in found.items()}
        self._teacher_outputs = None
        return torch.stack(totals).sum(), terms

    def _of_teacher(self, pictures: Tensor) -> Outputs | None:
        if self.teacher is None or self.teacher_taps is None:
            return None
        with torch.no_grad():
            logits = self.teacher(pictures)
        return Outputs(logits, {name: list(maps) for name, maps in self.teacher_taps.features.items()})

    def loss_inputs(self, batch: dict[str, Tensor]) -> LossInputs:
        """Run the student, at its present depth, on pictures."""
        logits = self.model(batch["pictures"])
        student = Outputs(logits, self.student_taps[getattr(self.model, "option", 0)].features)
        return LossInputs(student=student, teacher=self._teacher_outputs, labels=batch["labels"])

    def predict(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (N, depths, classes) and labels of a batch of the dev set.

        A network that is set to a lesser depth, or that has none to choose, is evaluated as it is.
        """
        pictures = self.hearing.to(batch["sound"].device)(batch["sound"])
        if getattr(self.model, "option", None) != 0:
            return self.model(pictures).float().cpu().unsqueeze(1), batch["labels"].cpu()
        rows = []
        for option in range(len(self.weights)):
            with at_option(self.model, option):
                rows.append(self.model(pictures).float().cpu())
        return torch.stack(rows, dim=1), batch["labels"].cpu()

    def metrics(self, outputs: Tensor, labels: Tensor, loader: int) -> Mapping[str, float]:
        """Accuracy and loss of the whole network, and the accuracy of each thinner one."""
        found: dict[str, Any] = compute(outputs[:, 0], labels)
        for option in range(1, outputs.shape[1]):
            found[f"accuracy_option{option}"] = compute(outputs[:, option], labels)["accuracy"]
        return found

    def on_fit_end(self) -> None:
        """Take the taps off again."""
        for taps in (*self.student_taps, self.teacher_taps):
            if taps is not None:
                taps.remove()
                taps.clear()


def _taps(network: nn.Module, wanted: tuple[str, ...], option: int = 0) -> Taps:
    """Of the layers that run at a depth: what the others put out in an earlier pass is not compared."""
    return Taps(network, {LAYERS: layer_names(network, option)} if LAYERS in wanted else {}).attach()

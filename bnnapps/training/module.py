"""The Lightning module that every task builds on."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from bnnapps.binarize import apply_constraints, is_binarized, plan_of
from bnnapps.errors import DataError, TrainingError
from bnnapps.losses.hub import LossHub, LossInputs
from bnnapps.losses.latent import layers_with_latent_weights
from bnnapps.nn.progress import set_progress
from bnnapps.optim import ParameterGroup, optimizer_of, parameter_groups, set_rates
from bnnapps.recipe.schema import ResolvedStage
from bnnapps.training.finite import all_finite, describe_batch, first_not_finite, float_tensors, not_finite_state
from bnnapps.training.layer_pairs import LayerPairs
from bnnapps.training.ranks import calibrate_together


def joined(parts: Sequence[Any]) -> Any:
    """Outputs (or labels) of all batches as those of one: tensors along their first dimension, lists end to end."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return [item for part in parts for item in part]


class BinaryModule(pl.LightningModule):
    """A network in training: losses from the hub, an optional teacher, everything that moves driven by progress.

    Before each step the fraction of the training that is done sets the learning rates and `set_progress`; random
    numbers are seeded from (seed, step), so a resumed run draws what an unbroken run draws. After each step the
    constraints of latent weights are applied.

    A task implements `loss_inputs`, `predict` and `metrics`.

    Args:
        model: the network, binary or float.
        stage: how it is trained.
        hub: the terms of the loss.
        seed: of everything random in the steps.
        teacher: a frozen network in eval mode; it is no part of the checkpoints.

    Attributes:
        recipe: as plain data, kept in the checkpoints, so that a stage goes on only with the recipe that it began with.
    """

    def __init__(
        self, model: nn.Module, stage: ResolvedStage, hub: LossHub, seed: int, teacher: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.stage = stage
        self.hub = hub
        self.seed = seed
        # Kept out of the module tree, so that neither checkpoints nor optimizers see it.
        self.__dict__["teacher"] = None if teacher is None else teacher.eval().requires_grad_(False)
        self.fraction = 0.0
        self.began = time.monotonic()
        self.recipe: dict[str, Any] | None = None
        self._groups: list[ParameterGroup] = []
        self._predictions: list[tuple[Any, Any, int]] = []

    teacher: nn.Module | None
    _calibrating: list[Any]

    def loss_inputs(self, batch: Any) -> LossInputs:
        """Run student and teacher on a batch."""
        raise NotImplementedError

    def predict(self, batch: Any) -> tuple[Any, Any]:
        """Outputs and labels of a batch of the dev set, on the CPU: a tensor each, or a list with one item an image.

        Lists are for outputs that differ in number, such as boxes.
        """
        raise NotImplementedError

    def metrics(self, outputs: Any, labels: Any, loader: int) -> Mapping[str, float]:
        """The task's metrics over a whole dev set (the `loader`-th, where there are several).

        Outputs and labels are those of all batches, joined (`joined`).
        """
        raise NotImplementedError

    # Training

    def on_fit_start(self) -> None:
        """Move the teacher to where the student is."""
        if self.teacher is not None:
            self.teacher.to(self.device)

    def on_train_start(self) -> None:
        """Of several processes, let none start from its own batch alone."""
        self.__dict__["_calibrating"] = calibrate_together(self.model)

    def on_train_epoch_start(self) -> None:
        """Tell the loader which epoch it is."""
        loader: Any = self.trainer.train_dataloader
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(self.current_epoch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set everything that moves."""
        self._seed_step(batch_idx)
        step, total = self.global_step, max(1, self.total_steps)
        self.fraction = min(1.0, step / total)
        set_progress(self.model, self.fraction)
        optimizer = self.trainer.optimizers[0]
        set_rates(optimizer, self._groups, min(1.0, (step + 1) / total), self.stage.schedule)
        self._log_rates(optimizer)

    def _seed_step(self, batch_idx: int) -> None:
        part = batch_idx % self.trainer.accumulate_grad_batches
        seed = self.seed * 1_000_003 + self.global_step * 131 + part * 1_009 + self.global_rank
        torch.manual_seed(seed % 2**63)

    def _log_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """The first learning rate, and Bop's first gamma."""
        first: dict[str, float] = {}
        for settings, group in zip(optimizer.param_groups, self._groups, strict=True):
            first.setdefault("lr" if group.moves == "lr" else "lr/gamma", settings[group.moves])
        self.log_dict(first)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole stage."""
        return int(self.trainer.estimated_stepping_batches)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        total, terms = self._loss(batch)
        if not all_finite([total, *(t for _, t in float_tensors(batch))]):
            raise self._not_finite(batch, batch_idx, total, terms)
        self.log("loss", total.detach(), prog_bar=True)
        self.log_dict({f"loss/{name}": value for name, value in terms.items()})
        return total

    def _loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        latent = layers_with_latent_weights(self.model) if self.hub.latent else ()
        if not self.hub.layers or self.teacher is None:
            return self.hub(dataclasses.replace(self.loss_inputs(batch), progress=self.fraction, latent=latent))
        with LayerPairs(self.model, self.teacher) as watched:
            inputs = self.loss_inputs(batch)
        return self.hub(dataclasses.replace(inputs, progress=self.fraction, layers=watched.pairs(), latent=latent))

    def _not_finite(self, batch: Any, batch_idx: int, total: Tensor, terms: Mapping[str, Tensor]) -> Exception:
        """What to raise for a batch whose data or loss is not finite: the batch runs again, every layer watched."""
        where = f"stage '{self.stage.name}', step {self.global_step}, epoch {self.current_epoch}, batch {batch_idx}"
        bad_data = describe_batch(batch)
        if bad_data is not None:
            return DataError(f"{where}: {bad_data}: correct or remove that example")
        self._seed_step(batch_idx)
        first = first_not_finite({"student": self.model, "teacher": self.teacher}, lambda: self._loss(batch))
        if first is None:
            named = ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
            first = f"a term of the loss, behind finite layers ({named})"
        return TrainingError(
            f"{where}: the loss is {float(total.detach())}; what is not finite first is {first}: lower the learning "
            "rate, clip the gradient (trainer.gradient_clip_val), or check that layer"
        )

    def on_train_epoch_end(self) -> None:
        """Check the weights and statistics: a sign turns NaN into -1, so the loss alone does not show it."""
        state = not_finite_state(self.model)
        if state is not None:
            raise TrainingError(
                f"stage '{self.stage.name}': after epoch {self.current_epoch} the {state} of the network is not finite"
                ": lower the learning rate or clip the gradient (trainer.gradient_clip_val)"
            )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Constrain the latent weights."""
        apply_constraints(self.model)
        while self._calibrating:
            self._calibrating.pop().remove()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimizer."""
        # Lightning cannot clip gradients under mixed precision for an optimizer that is fused.
        fused = self.trainer.precision == "32-true"
        self._groups = parameter_groups(self.model, self.stage.optimizer, self.stage.lr)
        return optimizer_of(self._groups, self.stage.optimizer, fused)

    # Evaluation

    def on_validation_epoch_start(self) -> None:
        """Forget the predictions of the last evaluation."""
        self._predictions = []

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect the predictions of a batch."""
        outputs, labels = self.predict(batch)
        self._predictions.append((outputs, labels, dataloader_idx))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of each dev set."""
        for name, value in self.collected_metrics().items():
            self.log(name, value, prog_bar=True)

    def collected_metrics(self) -> dict[str, float]:
        """The metrics over the predictions that were collected, named `dev/...`."""
        found: dict[str, float] = {}
        for loader in sorted({i for _, _, i in self._predictions}):
            outputs = joined([o for o, _, i in self._predictions if i == loader])
            labels = joined([y for _, y, i in self._predictions if i == loader])
            found |= {f"dev/{name}": value for name, value in self.metrics(outputs, labels, loader).items()}
        return found

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The plan travels with the state."""
        checkpoint["bnnapps"] = {
            "stage": self.stage.name,
            "recipe": self.recipe,
            "plan": plan_of(self.model).to_dict() if is_binarized(self.model) else None,
            "seconds": time.monotonic() - self.began,
        }

"""What a person sees of a training: a live bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar
from rich.console import Console


def progress_callback(console: Console, live: bool, stage: str, monitor: str) -> Callback:
    """Lightning's own progress bar on a terminal (`live`), else `EpochLines`."""
    if live:
        return RichProgressBar(leave=False)
    return EpochLines(console, stage, monitor)


class EpochLines(Callback):
    """One line for each epoch, and one every half minute within long ones."""

    def __init__(self, console: Console, stage: str, monitor: str, every: float = 30.0) -> None:
        self.console, self.stage, self.monitor, self.every = console, stage, monitor, every
        self.began = self.shown = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.began = self.shown = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A line every half minute."""
        if time.monotonic() - self.shown >= self.every:
            self._line(trainer, f"batch {batch_idx + 1}/{trainer.num_training_batches}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A line with the dev metric."""
        value = trainer.callback_metrics.get(self.monitor)
        self._line(trainer, "" if value is None else f"{self.monitor} {float(value):.4f}")

    def _line(self, trainer: pl.Trainer, text: str) -> None:
        self.shown = time.monotonic()
        loss = trainer.callback_metrics.get("loss")
        shown_loss = "" if loss is None else f"loss {float(loss):.4f}"
        limit = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        parts = [
            f"{self.stage}: epoch {trainer.current_epoch + 1}{limit}",
            f"step {trainer.global_step}",
            shown_loss,
            text,
        ]
        seconds = f"{self.shown - self.began:.0f} s"
        self.console.print("  ".join(p for p in [*parts, seconds] if p), highlight=False)

"""Metrics as JSON lines, one object an event; a resumed run continues the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from bnnapps.errors import CheckpointError
from bnnapps.training.folder import write_text
from bnnapps.training.ranks import is_first


class JsonLinesLogger(Logger):
    """Appends `{"stage": ..., "step": ..., "epoch": ..., "loss": ...}` to a file.

    Args:
        path: the file; lines of this stage from `resume_step` on are dropped first, as they will come again.
        stage: the stage's name.
        resume_step: the step that the training goes on from.
    """

    def __init__(self, path: Path, stage: str, resume_step: int = 0) -> None:
        super().__init__()
        self.path, self.stage = path, stage
        if not is_first():
            return
        kept = [line for line in read_metrics(path) if line.get("stage") != stage or line["step"] < resume_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    @property
    def name(self) -> str:
        """The stage."""
        return self.stage

    @property
    def version(self) -> str:
        """None is kept."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The recipe holds them."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Append one event."""
        if not is_first():
            return
        values = {k: float(v) for k, v in metrics.items() if k != "epoch"}
        event = {"stage": self.stage, "step": step, "epoch": int(metrics.get("epoch", 0)), **values}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError as problem:
            raise CheckpointError(f"could not write {self.path}: {problem.strerror}") from None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All events of a file, in order; a last line that was cut short by a kill is left out."""
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events

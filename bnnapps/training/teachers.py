"""Teachers: where they come from, and whether they fit, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bnnapps.errors import RecipeError
from bnnapps.forward import run_model
from bnnapps.losses import get_loss
from bnnapps.recipe.schema import ResolvedStage


def in_words(teacher: str | Mapping[str, Any] | None) -> str:
    """A teacher as a recipe names it, on one line: `torchvision resnet34, pretrained`."""
    if teacher is None:
        return "–"
    if isinstance(teacher, str):
        return teacher
    parts = [k if v is True else f"no {k}" if v is False else f"{k} {v}" for k, v in teacher.items() if v is not None]
    return ", ".join(parts)


def compares_logits(stage: ResolvedStage) -> list[str]:
    """The names of the stage's losses that compare the logits of student and teacher."""
    found = [get_loss(config.name) for config in stage.losses]
    return [loss.name for loss in found if loss.needs_teacher and not (loss.taps or loss.extras or loss.layers)]


def check_teacher(stage: ResolvedStage, student: nn.Module, teacher: nn.Module, inputs: Any) -> None:
    """Run both networks once and raise `RecipeError` where their logits cannot be compared as the losses ask."""
    label = f"train, stage '{stage.name}': the teacher {in_words(stage.teacher)}"
    try:
        taught = _logits(run_model(teacher, inputs))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as problem:
        reason = " ".join(str(problem).split())[:300]
        raise RecipeError(
            f"{label} cannot compute on this task's inputs ({reason}): take one that was trained on such data"
        ) from None
    names = compares_logits(stage)
    learned = _logits(run_model(student, inputs))
    if not names or taught is None or learned is None or taught.shape == learned.shape:
        return
    shown = ", ".join(f"'{name}'" for name in names)
    raise RecipeError(
        f"{label} gives logits of shape {tuple(taught.shape)} and the student {tuple(learned.shape)}, which "
        f"{shown} cannot compare: take a teacher of the same classes, or drop that loss"
    )


def _logits(output: Any) -> Tensor | None:
    """The logits in what a model gives: a tensor, or the `logits` of a Hugging Face output; `None`: not known."""
    if isinstance(output, Tensor):
        return output
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return found if isinstance(found, Tensor) else None

"""The loss hub: named loss terms, weighted and summed, each logged on its own.

    hub = LossHub([LossTerm("direction_matching"), LossTerm("logits"), LossTerm("task", weight=0.5)])
    total, parts = hub(LossInputs(student=Outputs(logits, taps, heads=12), teacher=Outputs(...), labels=labels))

`hub.taps` and `hub.needs_teacher` say beforehand what the terms read.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from bnnapps.errors import UsageError, nearest
from bnnapps.validation import Record, validated

if TYPE_CHECKING:
    from bnnapps.losses.layerwise import LayerPair


@dataclass(frozen=True)
class Outputs:
    """What one network made of a batch.

    Attributes:
        logits: (B, classes), or (B, 1) or (B,) for a regression.
        taps: tensors by the name of the tap, one a layer (see `bnnapps.training.taps`).
        heads: number of attention heads, which relations and scores need.
        losses: scalars that the network computes itself from the labels, as detectors do.
        extras: whatever else a task gives to its losses, by name (see `Loss.extras`).

    """

    logits: Tensor | None = None
    taps: Mapping[str, list[Tensor]] = field(default_factory=dict)
    heads: int | None = None
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LossInputs:
    """All that a loss term may read.

    Attributes:
        student: outputs of the network that is trained.
        teacher: outputs of the network that it learns from, without gradients, or `None`.
        labels: (B,), class numbers or real targets; or (B, classes), shares of the classes, for mixed examples.
        mask: (B, L), 1 at tokens and 0 at padding; `None`: no padding.
        progress: the fraction of the training that is done, 0 to 1.
        task: what `labels` are.
        layers: runs of the same layer of student and teacher, where a loss compares layers.
        latent: the student's binary layers, where a loss reads their latent weights.

    """

    student: Outputs
    teacher: Outputs | None = None
    labels: Tensor | None = None
    mask: Tensor | None = None
    progress: float = 0.0
    task: Literal["classification", "regression"] = "classification"
    layers: tuple[LayerPair, ...] = ()
    latent: tuple[nn.Module, ...] = ()

    def of_teacher(self, term: str) -> Outputs:
        """The teacher's outputs, or `UsageError`."""
        if self.teacher is None:
            raise UsageError(
                f"the loss '{term}' compares with a teacher, and there is none: give one, or drop the loss"
            )
        return self.teacher

    def both_logits(self, term: str) -> tuple[Tensor, Tensor]:
        """Logits of student and teacher, or `UsageError`."""
        teacher = self.of_teacher(term)
        return _logits(self.student, "student", term), _logits(teacher, "teacher", term)

    def both_taps(self, term: str, tap: str) -> tuple[list[Tensor], list[Tensor]]:
        """The tensors of one tap, of student and teacher, or `UsageError`."""
        teacher = self.of_teacher(term)
        return tapped(self.student, "student", term, tap), tapped(teacher, "teacher", term, tap)


def student_logits(inputs: LossInputs, term: str) -> Tensor:
    """The student's logits, or `UsageError`."""
    return _logits(inputs.student, "student", term)


def _logits(outputs: Outputs, who: str, term: str) -> Tensor:
    if outputs.logits is None:
        raise UsageError(f"the loss '{term}' needs the logits of the {who}, which were not given")
    return outputs.logits


def tapped(outputs: Outputs, who: str, term: str, tap: str) -> list[Tensor]:
    """The tensors of one tap, or `UsageError`."""
    if not outputs.taps.get(tap):
        known = f"it has {nearest(tap, outputs.taps)}" if outputs.taps else "it has no taps"
        raise UsageError(f"the loss '{term}' needs the tap '{tap}' of the {who}; {known}")
    return outputs.taps[tap]


def extra_of(outputs: Outputs, who: str, term: str, name: str) -> Any:
    """What the task gives under that name, or `UsageError`."""
    if name not in outputs.extras:
        known = f"it has {nearest(name, outputs.extras)}" if outputs.extras else "it has none"
        raise UsageError(
            f"the loss '{term}' needs '{name}' of the {who}, which this task or network does not give; {known}"
        )
    return outputs.extras[name]


def heads_of(outputs: Outputs, who: str, term: str) -> int:
    """The number of attention heads, or `UsageError`."""
    if outputs.heads is None:
        raise UsageError(f"the loss '{term}' needs the number of attention heads of the {who}, which was not given")
    return outputs.heads


LossFunction = Callable[..., Tensor]
"""Inputs to a scalar; a loss with options takes them as its second argument."""


@dataclass(frozen=True)
class Loss:
    """A kind of loss, as it is registered.

    Attributes:
        name: how recipes call it.
        function: inputs (and options) to a scalar.
        describes: one line.
        needs_teacher: whether it compares with a teacher.
        taps: the taps that it reads.
        options: the record of its options, if it has any.
        soft_labels: whether it can read shares of classes; true for a loss that reads no labels.
        extras: what it reads of `Outputs.extras`, of the teacher too where it needs one; a task computes only what is
            asked for.
        layers: whether it reads `LossInputs.layers`, which the training gives for every task.
        latent: whether it reads `LossInputs.latent`, likewise.

    """

    name: str
    function: LossFunction
    describes: str
    needs_teacher: bool = False
    taps: tuple[str, ...] = ()
    options: type[Record] | None = None
    soft_labels: bool = True
    extras: tuple[str, ...] = ()
    layers: bool = False
    latent: bool = False


_LOSSES: dict[str, Loss] = {}


def register_loss(loss: Loss) -> Loss:
    """Make a loss known by its name.

    Raises:
        ValueError: the name is taken.

    """
    if loss.name in _LOSSES:
        raise ValueError(f"a loss named '{loss.name}' is registered already")
    _LOSSES[loss.name] = loss
    return loss


def get_loss(name: str, where: str = "losses") -> Loss:
    """The loss of that name.

    Raises:
        UsageError: there is none; the nearest names are given.

    """
    if name not in _LOSSES:
        raise UsageError(f"{where}: unknown loss '{name}'; the nearest are {nearest(name, _LOSSES)}")
    return _LOSSES[name]


def losses() -> list[Loss]:
    """All losses, by name."""
    return [_LOSSES[name] for name in sorted(_LOSSES)]


class LossTerm:
    """One loss with its weight, and the part of the training in which it counts.

    Args:
        name: a registered loss; with `function`, any name.
        weight: what the loss is multiplied with in the total.
        function: a loss of your own.
        start: fraction of the training at which the term begins to count.
        stop: fraction at which it ends; 1 includes the last step.
        options: of the loss, such as `{"label_smoothing": 0.1}` of `task`.

    Raises:
        UsageError: an unknown name or option, a negative weight, or a span that is empty or not within 0 to 1.

    """

    def __init__(
        self,
        name: str,
        weight: float = 1.0,
        function: LossFunction | None = None,
        start: float = 0.0,
        stop: float = 1.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.loss = get_loss(name) if function is None else Loss(name, function, "")
        if not 0.0 <= weight < float("inf"):
            raise UsageError(f"losses: the weight of '{name}' is {weight}: it must be a number and not negative")
        if not 0.0 <= start < stop <= 1.0:
            raise UsageError(f"losses: '{name}' counts from {start} to {stop}: it must be 0 <= start < stop <= 1")
        self.name = name
        self.weight = weight
        self.start = start
        self.stop = stop
        self.options = _options(self.loss, {} if options is None else dict(options))

    def counts_at(self, progress: float) -> bool:
        """Whether the term counts at that fraction of the training."""
        return self.start <= progress and (progress < self.stop or self.stop == 1.0)

    def __call__(self, inputs: LossInputs) -> Tensor:
        """The loss, not weighted."""
        return self.loss.function(inputs) if self.options is None else self.loss.function(inputs, self.options)

    def __repr__(self) -> str:
        return f"LossTerm({self.name!r}, weight={self.weight}, start={self.start}, stop={self.stop})"


def _options(loss: Loss, given: dict[str, Any]) -> Record | None:
    if loss.options is not None:
        return validated(loss.options, given, f"losses: options of '{loss.name}'", UsageError)
    if given:
        raise UsageError(f"losses: '{loss.name}' has no options, so '{next(iter(given))}' cannot be set")
    return None


class LossHub:
    """The weighted sum of loss terms.

    Raises:
        UsageError: no terms, one name twice, or a part of the training in which no term counts.

    """

    def __init__(self, terms: Iterable[LossTerm]) -> None:
        self.terms = tuple(terms)
        names = [t.name for t in self.terms]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise UsageError(f"losses: '{twice}' is listed twice")
        reached = 0.0
        for start, stop in sorted((t.start, t.stop) for t in self.terms):
            if start > reached:
                break
            reached = max(reached, stop)
        if reached < 1.0:
            raise UsageError(
                f"losses: no loss counts when {reached:.0%} of the training is done: add one, or widen one"
            )

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher."""
        return any(t.loss.needs_teacher for t in self.terms)

    @property
    def taps(self) -> tuple[str, ...]:
        """The names of the taps that the terms read, sorted."""
        return tuple(sorted({tap for t in self.terms for tap in t.loss.taps}))

    @property
    def extras(self) -> tuple[str, ...]:
        """The names of the extras that the terms read, sorted."""
        return tuple(sorted({extra for t in self.terms for extra in t.loss.extras}))

    @property
    def teacher_extras(self) -> tuple[str, ...]:
        """The names of the extras that the terms read of the teacher, sorted."""
        return tuple(sorted({extra for t in self.terms if t.loss.needs_teacher for extra in t.loss.extras}))

    @property
    def layers(self) -> bool:
        """Whether any term compares layers of student and teacher."""
        return any(t.loss.layers for t in self.terms)

    @property
    def latent(self) -> bool:
        """Whether any term reads the latent weights of binary layers."""
        return any(t.loss.latent for t in self.terms)

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and each term that counts now, not weighted and without gradient, by name.

        Raises:
            UsageError: a term needs a teacher, a tap, labels or logits that are missing.

        """
        if not 0.0 <= inputs.progress <= 1.0:
            raise UsageError(f"progress is {inputs.progress}: it must lie between 0 and 1")
        counting = [t for t in self.terms if t.counts_at(inputs.progress)]
        values = [t(inputs) for t in counting]
        total = functools.reduce(operator.add, [t.weight * v for t, v in zip(counting, values, strict=True)])
        return total, {t.name: v.detach() for t, v in zip(counting, values, strict=True)}

    def __repr__(self) -> str:
        return f"LossHub({list(self.terms)!r})"

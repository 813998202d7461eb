"""Tasks whose networks are built from a few plain values, which travel with the model."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

from torch import nn

from bnnapps.errors import CheckpointError, RecipeError
from bnnapps.training.task import Task

_SHAPE = "_bnnapps_shape"

M = TypeVar("M", bound=nn.Module)


def labelled(model: M, shape: Any) -> M:
    """The model with its shape beside it, a `NamedTuple` of plain data, for `ShapedTask.architecture`."""
    model.__dict__[_SHAPE] = shape._asdict()
    return model


class ShapedTask(Task):
    """A task whose networks follow from a `NamedTuple`: what a network is without its weights.

    Attributes:
        shape: the class of the tuple, with the fields `name` and `classes` unless `misfit` reads others.

    """

    shape: ClassVar[type[Any]]

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The names of the classes of the data, or of the run that is opened again."""

    @abstractmethod
    def build_shape(self, shape: Any) -> nn.Module:
        """A float network of that shape.

        Raises:
            RecipeError: it cannot be built here.

        """

    def misfit(self, shape: Any) -> str | None:
        """What is said of a recorded model that does not fit the data; `None` for one that does."""
        if shape.classes == len(self.classes):
            return None
        return f"'{shape.name}' has outputs for {shape.classes} classes, and the data has {len(self.classes)}"

    def architecture(self, model: nn.Module) -> dict[str, Any]:
        """The model's shape as plain data."""
        return dict(model.__dict__[_SHAPE])

    def build_from(self, record: dict[str, Any]) -> nn.Module:
        """A network of the recorded shape."""
        if not isinstance(record, dict) or record.keys() != set(self.shape._fields):
            raise CheckpointError(f"the checkpoint's record of its model is not of the task '{self.recipe.task}'")
        shape = self.shape(**record)
        misfit = self.misfit(shape)
        if misfit is not None:
            raise CheckpointError(f"the checkpoint's model {misfit}")
        try:
            return labelled(self.build_shape(shape), shape)
        except RecipeError as problem:
            raise CheckpointError(f"the checkpoint's model cannot be built here: {problem}") from None

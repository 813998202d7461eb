"""What a task gives to the runner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor, nn

from bnnapps.errors import RecipeError, UsageError
from bnnapps.losses import LossHub
from bnnapps.recipe.schema import Recipe, ResolvedStage
from bnnapps.training.listening import Listening
from bnnapps.training.loader import EpochLoader
from bnnapps.training.module import BinaryModule


@dataclass(frozen=True)
class Section:
    """A part of the report: a title and HTML that the task wrote.

    Attributes:
        title: of the part.
        html: as it stands; scripts inside it do not run.
        script: JavaScript that the part needs, which is run once for the page. Everything else on the page stays
            forbidden to run: the page names the hash of this text.
    """

    title: str
    html: str
    script: str = ""


@dataclass(frozen=True)
class ExportForm:
    """One of the networks that a run is exported as.

    Attributes:
        suffix: what its folder below `export/` has behind the dialect, such as `-4-layers`; one of a run's is empty.
        about: what it is, in a few words; empty where there is only one.
        model: the network.
        inputs: its example inputs.

    """

    suffix: str
    about: str
    model: nn.Module
    inputs: Any


class Task(ABC):
    """A task at work on one recipe. Made cheaply; `prepare` reads the data.

    Attributes:
        recipe: the recipe, of the plugin's own class.
        monitor: the logged metric that decides which epoch is best, such as `dev/accuracy`.
        maximize: whether more of it is better.
    """

    monitor: str
    maximize: bool = True

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @abstractmethod
    def prepare(self) -> None:
        """Read the data (and what it needs, such as a tokenizer).

        Raises:
            DataError, HubError: with one clear line.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Facts about the data for the report and `--dry-run`: name, real or generated, sizes."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The float model with the weights that the recipe asks for; the same for the same seed."""

    @abstractmethod
    def architecture(self, model: nn.Module) -> dict[str, Any]:
        """Plain data from which `build_from` builds a model of the same shape."""

    @abstractmethod
    def build_from(self, record: dict[str, Any]) -> nn.Module:
        """A float model of the recorded shape; its weights will be loaded.

        Raises:
            CheckpointError: the record is not one of this task.
        """

    def fitted(self, model: nn.Module, stage: ResolvedStage) -> nn.Module:
        """The float model that a stage starts with as the stage wants it: by default as it is.

        A task whose teachers are built otherwise than its students makes one of the other here.
        """
        return model

    def lacks(self, model: nn.Module, extra: str) -> str | None:
        """Why a loss cannot read one of `Outputs.extras` of a network, as the end of "the loss ..."; `None`: it can."""
        return f"needs '{extra}', which this task does not give"

    def narrow(self, model: nn.Module, width: float) -> nn.Module:
        """The model with a fraction of its heads and inner features."""
        raise RecipeError(f"the task '{self.recipe.task}' cannot change a model's width: remove 'width' from the stage")

    def named_teacher(self, spec: dict[str, Any]) -> nn.Module:
        """A trained network that the task knows how to get, such as `{torchvision: resnet34, pretrained: true}`.

        Raises:
            RecipeError: the task knows none, or not this one.
        """
        raise RecipeError(
            f"train.teacher: the task '{self.recipe.task}' knows no teacher by {', '.join(spec) or 'an empty name'}: "
            "give the name of an earlier stage, or the path of a checkpoint"
        )

    @abstractmethod
    def make_module(
        self, model: nn.Module, stage: ResolvedStage, hub: LossHub, teacher: nn.Module | None
    ) -> BinaryModule:
        """The Lightning module for a stage."""

    @abstractmethod
    def train_loader(self) -> EpochLoader:
        """The training data, in an order that follows from (seed, epoch)."""

    @abstractmethod
    def dev_loaders(self) -> Sequence[EpochLoader]:
        """The dev set or sets, in order."""

    @abstractmethod
    def example_inputs(self) -> Any:
        """A small batch in the form that the model takes, for plans, summaries and exports."""

    def one_example(self) -> Any:
        """The first of the example inputs, by which a network's work is counted."""
        return first_of(self.example_inputs())

    def export_forms(self, model: nn.Module) -> list[ExportForm]:
        """What is exported: the model, or several networks that it holds.

        Raises:
            UsageError: the run cannot give what its recipe asks for.

        """
        return [ExportForm("", "", model, self.example_inputs())]

    def export_form(self, model: nn.Module, suffix: str) -> ExportForm:
        """The one of that suffix, whatever the recipe asks for.

        Raises:
            UsageError: the run has none.

        """
        found = next((form for form in self.export_forms(model) if form.suffix == suffix), None)
        if found is None:
            raise UsageError(f"the run is exported in no form '{suffix}'")
        return found

    @abstractmethod
    def save_assets(self, folder: Path) -> None:
        """Write what `load` needs to build the model again, beside its state."""

    @abstractmethod
    def load_assets(self, folder: Path) -> None:
        """Take from a run's assets what `prepare` would otherwise read or make."""

    def listen(self, model: nn.Module, settings: Listening, out: Path, console: Console) -> dict[str, Any]:
        """Hear a long recording, write what was heard and a page about it into a folder, and return it as plain data.

        Args:
            model: the run's network.
            settings: the recording, and how it is heard.
            out: the folder, which may not be there yet.
            console: for what is told meanwhile.

        Raises:
            UsageError: the task is not about sound.
            DataError: the recording cannot be heard.

        """
        raise UsageError(f"the task '{self.recipe.task}' hears nothing: `bnnapps listen` takes a run of keywords")

    def sections(self, model: nn.Module, folder: Path) -> list[Section]:
        """The task's own parts of the report."""
        return []


def first_of(inputs: Any) -> Any:
    """The first example of a batch of example inputs.

    A list within a tuple or mapping of arguments is a batch of its own, such as images of different sizes.
    """
    if isinstance(inputs, Mapping):
        return {name: _first_of(value) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(_first_of(value) for value in inputs)
    return _first_of(inputs)


def _first_of(argument: Any) -> Any:
    if isinstance(argument, (Tensor, list)):
        return argument[:1]
    return first_of(argument) if isinstance(argument, (Mapping, tuple)) else argument

"""Models for stages: from the recipe, an earlier stage, or a checkpoint; each student the next one's start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bnnapps.binarize import Plan, apply_plan, is_binarized, plan, restore
from bnnapps.errors import BinarizeError, CheckpointError, RecipeError, nearest
from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.spec import ActivationSpec
from bnnapps.recipe.schema import BinarizeConfig, Recipe, ResolvedStage
from bnnapps.training.checkpoint import load_file, load_model
from bnnapps.training.folder import RunFolder
from bnnapps.training.task import Task


def stage_rules(recipe: Recipe, stage: ResolvedStage) -> BinarizeConfig | None:
    """The binarization of a stage: its own, else the recipe's; `None` for a float network."""
    chosen = recipe.binarize if stage.binarize is None else stage.binarize
    return None if chosen is False else chosen


def check_stages(stages: Sequence[ResolvedStage]) -> None:
    """Raise `RecipeError` where a stage's teacher or start is neither an earlier stage nor a file."""
    for i, stage in enumerate(stages):
        earlier = [s.name for s in stages[:i]]
        for key in ("teacher", "init"):
            source = getattr(stage, key)
            if source is not None and source not in earlier and not Path(source).is_file():
                raise RecipeError(
                    f"train, stage '{stage.name}': {key} is '{source}', which is neither a checkpoint file "
                    f"nor an earlier stage; the nearest are {nearest(source, earlier)}"
                )


class StageModels:
    """Builds the models of a run's stages."""

    def __init__(self, task: Task, stages: Sequence[ResolvedStage], folder: RunFolder) -> None:
        self.task, self.stages, self.folder = task, stages, folder

    def path(self, source: str) -> Path:
        """The checkpoint of an earlier stage, or the file of that name."""
        for number, stage in enumerate(self.stages, 1):
            if stage.name == source:
                return self.folder.stage(number, stage.name) / "model.ckpt"
        return Path(source)

    def open(self, path: Path) -> nn.Module:
        """The model of a checkpoint, binary if it was."""
        return open_model(self.task, path)

    def teacher(self, stage: ResolvedStage) -> nn.Module | None:
        """The teacher of a stage."""
        return None if stage.teacher is None else self.open(self.path(stage.teacher))

    def student(self, stage: ResolvedStage) -> nn.Module:
        """The network of a stage at its start, binarized by its rules.

        What an earlier student's quantizers had learned goes over to quantizers of the same kind; a learned scale
        for another number of bits starts anew from data.
        """
        learned: dict[str, _Learned] = {}
        if stage.init is None:
            model = self.task.build_model()
        else:
            model = self.open(self.path(stage.init))
            learned = _learned(model)
            if is_binarized(model):
                restore(model)
        if stage.width is not None:
            model = self.task.narrow(model, stage.width)
        rules = stage_rules(self.task.recipe, stage)
        if rules is not None:
            the_plan = self._plan(stage, rules, model)
            apply_plan(model, the_plan)
            _hand_over(model, learned)
        return model

    def preview(self, stage: ResolvedStage, built: dict[str, nn.Module]) -> Plan | None:
        """The plan of a stage before anything is trained; `built` collects float models by stage name."""
        source = built.get(stage.init) if stage.init in built else None
        if stage.init is not None and source is None:
            source = self.open(self.path(stage.init))
            if is_binarized(source):
                restore(source)
        model = self.task.build_model() if source is None else source
        if stage.width is not None:
            model = self.task.narrow(model, stage.width)
        built[stage.name] = model
        rules = stage_rules(self.task.recipe, stage)
        if rules is None:
            return None
        return self._plan(stage, rules, model)

    def _plan(self, stage: ResolvedStage, rules: BinarizeConfig, model: nn.Module) -> Plan:
        try:
            return plan(model, rules.as_rules(), example_inputs=self.task.example_inputs())
        except BinarizeError as problem:
            raise BinarizeError(f"stage '{stage.name}', binarize: {problem}") from None


def open_model(task: Task, path: Path) -> nn.Module:
    """Build the architecture that a checkpoint names and bring it to the checkpoint's state.

    Raises:
        CheckpointError: the file cannot be read, or was not written by a run of this task.
    """
    record = load_file(path).get("architecture")
    if not isinstance(record, dict):
        raise CheckpointError(f"{path} does not say which model it belongs to: it was not written by `bnnapps run`")
    model = task.build_from(record)
    load_model(model, path)
    return model


_Learned = tuple[ActivationSpec, dict[str, Tensor]]


def _learned(model: nn.Module) -> dict[str, _Learned]:
    return {
        name: (module.spec, {k: v.clone() for k, v in module.state_dict().items()})
        for name, module in model.named_modules()
        if isinstance(module, ActivationBinarizer)
    }


@torch.no_grad()
def _hand_over(model: nn.Module, learned: dict[str, _Learned]) -> None:
    for name, module in model.named_modules():
        if not isinstance(module, ActivationBinarizer) or name not in learned:
            continue
        spec, state = learned[name]
        if spec == module.spec:
            module.load_state_dict(state)
        elif spec.shift == module.spec.shift == "channel":
            module.shift.copy_(state["shift"])

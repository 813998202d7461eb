"""Models for stages: from the recipe, an earlier stage, or a checkpoint; each student the next one's start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from bnnapps.binarize import Plan, apply_plan, is_binarized, plan, restore
from bnnapps.errors import BinarizeError, CheckpointError, RecipeError, nearest
from bnnapps.recipe.schema import BinarizeConfig, Recipe, ResolvedStage
from bnnapps.training.checkpoint import load_file, load_model
from bnnapps.training.folder import RunFolder
from bnnapps.training.handover import Part, hand_over, learned_parts
from bnnapps.training.task import Task
from bnnapps.training.teachers import check_teacher


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
            if isinstance(source, dict):  # a teacher that the task knows
                continue
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
        """The teacher of a stage: an earlier stage, a checkpoint, or one that the task knows by name."""
        if isinstance(stage.teacher, dict):
            return self.task.named_teacher(stage.teacher)
        return None if stage.teacher is None else self.open(self.path(stage.teacher))

    def student(self, stage: ResolvedStage) -> nn.Module:
        """The network of a stage at its start, binarized by its rules.

        What the parts of an earlier student had learned (shifts, scales, non-linearities) goes over to parts of the
        same kind; a learned scale for another number of bits starts anew from data.
        """
        learned: dict[str, Part] = {}
        if stage.init is None:
            model = self.task.build_model()
        else:
            model = self.open(self.path(stage.init))
            learned = learned_parts(model)
            if is_binarized(model):
                restore(model)
        model = self.task.fitted(model, stage)
        if stage.width is not None:
            model = self.task.narrow(model, stage.width)
        rules = stage_rules(self.task.recipe, stage)
        if rules is not None:
            the_plan = self._plan(stage, rules, model)
            apply_plan(model, the_plan)
            hand_over(model, learned)
        return model

    def preview(self, stage: ResolvedStage, built: dict[str, nn.Module]) -> Plan | None:
        """The plan of a stage before anything is trained; `built` collects float models by stage name."""
        source = built.get(stage.init) if stage.init in built else None
        if stage.init is not None and source is None:
            source = self.open(self.path(stage.init))
            if is_binarized(source):
                restore(source)
        model = self.task.fitted(self.task.build_model() if source is None else source, stage)
        if stage.width is not None:
            model = self.task.narrow(model, stage.width)
        built[stage.name] = model
        if isinstance(stage.teacher, dict) or (stage.teacher is not None and stage.teacher not in built):
            teacher = self.teacher(stage)
            assert teacher is not None
            check_teacher(stage, model, teacher, self.task.example_inputs())
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

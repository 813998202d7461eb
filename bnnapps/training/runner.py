"""Running a recipe: every stage, then the summary, the exports and the report."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from torch import nn

from bnnapps.binarize import Plan, apply_plan, is_binarized, plan_of
from bnnapps.errors import RecipeError, UsageError
from bnnapps.losses import LossHub, LossTerm, get_loss
from bnnapps.nn.front import Front
from bnnapps.plugin import get_plugin
from bnnapps.profile import summarize
from bnnapps.recipe.load import as_recipe, change_values, dump_recipe, read_mapping
from bnnapps.recipe.schema import Recipe, ResolvedStage
from bnnapps.report import write_report
from bnnapps.training.checkpoint import save_model
from bnnapps.training.exported import dev_metrics, training_inputs
from bnnapps.training.fit import check_trainer, fit_stage
from bnnapps.training.folder import RunFolder, environment, write_text
from bnnapps.training.ranks import is_first, wait_for_all
from bnnapps.training.same_recipe import check_same
from bnnapps.training.stages import StageModels, check_stages, open_model
from bnnapps.training.task import Section, Task
from bnnapps.training.teachers import check_teacher


@dataclass(frozen=True)
class Preview:
    """What a run would do: the data, and each stage with its plan (`None`: a float network)."""

    data: dict[str, Any]
    stages: list[tuple[ResolvedStage, Plan | None]]


def hub_of(stage: ResolvedStage) -> LossHub:
    """The loss hub of a stage.

    Raises:
        UsageError: an unknown loss, or one that needs a teacher where there is none.
    """
    for config in stage.losses:
        if get_loss(config.name, f"stage '{stage.name}', losses").needs_teacher and stage.teacher is None:
            raise RecipeError(
                f"train, stage '{stage.name}': the loss '{config.name}' compares with a teacher: set 'teacher' to "
                "an earlier stage, or drop the loss"
            )
    terms = [LossTerm(c.name, c.weight, start=c.start, stop=c.stop, options=c.options) for c in stage.losses]
    return LossHub(terms)


def preview(
    recipe: Recipe, folder: RunFolder | None = None, built: dict[str, nn.Module] | None = None
) -> tuple[Task, Preview]:
    """Check everything that can be checked before training: names, losses, data, and the plan of every stage.

    `built` collects the float networks, by stage.
    """
    stages = recipe.train.resolved()
    check_stages(stages)
    check_trainer(recipe.trainer)
    for stage in stages:
        hub_of(stage)
    for dialect in recipe.export.dialects:
        _export_package().list_steps(dialect)  # raises for an unknown one
    task = get_plugin(recipe.task).task(recipe)
    if folder is not None and folder.assets.is_dir():
        task.load_assets(folder.assets)
    task.prepare()
    models = StageModels(task, stages, folder or RunFolder("."))
    built = {} if built is None else built
    plans = []
    for stage in stages:
        plans.append((stage, models.preview(stage, built)))
        _check_extras(task, stage, built[stage.name])
        _check_latent(stage, plans[-1][1])
    return task, Preview(task.describe(), plans)


def _check_extras(task: Task, stage: ResolvedStage, model: nn.Module) -> None:
    """Raise `RecipeError` where a loss would read of the stage's network what that does not give."""
    for config in stage.losses:
        for extra in get_loss(config.name).extras:
            reason = task.lacks(model, extra)
            if reason is not None:
                raise RecipeError(
                    f"train, stage '{stage.name}': the loss '{config.name}' {reason}: drop the loss, or take another "
                    "network"
                )


def _check_latent(stage: ResolvedStage, plan: Plan | None) -> None:
    """Raise `RecipeError` where a loss would read binary weights of a stage that has none."""
    reading = next((config.name for config in stage.losses if get_loss(config.name).latent), None)
    if reading is not None and (plan is None or not plan.binarized):
        raise RecipeError(
            f"train, stage '{stage.name}': the loss '{reading}' reads the weights of binary layers, and here no layer "
            "becomes binary: drop the loss in this stage"
        )


def target_rows(recipe: Recipe, target: str) -> tuple[Preview, list[Any]]:
    """The preview of a recipe, and which layers of the network that it would export take the path of a target.

    There are no rows where that network is a float one.

    Raises:
        UsageError: an unknown target.
    """
    check = _export_package().get_target(target)
    built: dict[str, nn.Module] = {}
    _, found = preview(recipe, built=built)
    stage, the_plan = found.stages[-1]
    return found, [] if the_plan is None else check(apply_plan(built[stage.name], the_plan))


def run_recipe(recipe: Recipe, out: str | Path, console: Console, resume: bool = False) -> dict[str, Any]:
    """Run a recipe into a folder and return its result, which also lies there as `result.json`.

    A run that was killed goes on with `resume`: finished stages are kept, the stage at work continues from its last
    checkpoint, and on a CPU the weights at the end are those of an unbroken run with the same seed.

    With a strategy of several processes (`trainer: {strategy: ddp, devices: 2}`), Lightning starts the others with the
    same command when the first stage begins; they train, and the first process does all the rest.

    Raises:
        UsageError: the folder holds another run.
        BnnappsError: see the message.
    """
    folder = RunFolder(out)
    if is_first():
        _check_folder(folder, recipe, resume)
    pl.seed_everything(recipe.seed, verbose=False)
    task, plans = preview(recipe, folder)
    if is_first():
        write_text(folder.recipe, dump_recipe(recipe))
        if not (folder.root / "environment.json").exists():
            folder.write_json("environment.json", environment(recipe.seed))
        _save_assets(task, folder)
    console.print(f"Data: {in_words(plans.data)}", highlight=False)
    results = [_run_stage(task, number, plans, folder, console, resume) for number in range(1, len(plans.stages) + 1)]
    if is_first():
        return _finish(task, plans, results, folder, console)
    return {"stages": results}


def _finish(
    task: Task, plans: Preview, results: list[dict[str, Any]], folder: RunFolder, console: Console
) -> dict[str, Any]:
    """The model, its summary, its exports, the result and the report, from the stages."""
    recipe = task.recipe
    model = open_model(task, folder.stage(len(results), results[-1]["stage"]) / "model.ckpt")
    save_model(model, folder.model, architecture=task.architecture(model), task=recipe.task)
    summary = summarize(model, task.one_example())
    folder.write_json("summary.json", summary.to_dict())
    if is_binarized(model):
        folder.write_json("plan.json", plan_of(model).to_dict())
    result: dict[str, Any] = {"task": recipe.task, "data": plans.data, "monitor": task.monitor, "stages": results}
    result["exports"] = [one for d in recipe.export.dialects for one in export_model(task, model, folder, d, console)]
    folder.write_json("result.json", result)
    sections = task.sections(model, folder.root)
    folder.write_json("sections.json", [dataclasses.asdict(s) for s in sections])
    refresh_report(folder)
    return result


def refresh_report(folder: RunFolder) -> Path:
    """Write the report anew from what lies in the run folder."""
    sections: Any = folder.read_json("sections.json")
    return write_report(folder, [Section(s["title"], s["html"], s.get("script", "")) for s in sections])


def _run_stage(
    task: Task, number: int, plans: Preview, folder: RunFolder, console: Console, resume: bool
) -> dict[str, Any]:
    stages = [stage for stage, _ in plans.stages]
    stage = stages[number - 1]
    path = folder.stage(number, stage.name)
    relative = path.relative_to(folder.root)
    if (resume or not is_first()) and (path / "result.json").is_file() and (path / "model.ckpt").is_file():
        console.print(f"Stage {number}/{len(stages)} '{stage.name}': finished before", highlight=False)
        return folder.read_json(str(relative / "result.json"))
    models = StageModels(task, stages, folder)
    pl.seed_everything(task.recipe.seed + number, verbose=False)
    teacher, student = models.teacher(stage), models.student(stage)
    if teacher is not None:
        check_teacher(stage, student, teacher, task.example_inputs())
    the_plan = plan_of(student) if is_binarized(student) else None
    kind = "float" if the_plan is None else f"{len(the_plan.binarized)} binary layers"
    console.print(f"Stage {number}/{len(stages)} '{stage.name}': {kind}", highlight=False)
    if the_plan is not None:
        if is_first():
            folder.write_json(str(relative / "plan.json"), the_plan.to_dict())
        the_plan.assert_ran(student, task.example_inputs())
    module = task.make_module(student, stage, hub_of(stage), teacher)
    result = fit_stage(task, module, stage, path, folder.root / "metrics.jsonl", console, resume)
    if is_first():
        save_model(student, path / "model.ckpt", architecture=task.architecture(student), task=task.recipe.task)
        folder.write_json(str(relative / "result.json"), result)
    wait_for_all()
    shown = ", ".join(f"{k} {v:.4f}" for k, v in result["metrics"].items())
    console.print(
        f"Stage {number}/{len(stages)} '{stage.name}' done in {result['seconds']:.0f} s: {shown}", highlight=False
    )
    return result


CALIBRATION_BATCHES = 8


def export_eight_bits(task: Task, model: nn.Module, folder: RunFolder, console: Console) -> list[dict[str, Any]]:
    """Export into `export/packed-8bit/model.onnx`: packed, with the real layers in 8 bits, and what that costs.

    Ranges come from the first batches of the training set; the cost is that of the metrics on the dev set.
    """
    forms = task.export_forms(model)
    if any(isinstance(module, Front) for form in forms for module in form.model.modules()):
        raise UsageError("--real-bits 8 would round what is computed in front of the network: export without it")
    task.prepare()
    package, found = _export_package(), []
    for form in forms:
        path = _export_path(folder, f"packed-8bit{form.suffix}", console)
        inputs = training_inputs(task, form.model, CALIBRATION_BATCHES)
        dynamic = task.recipe.export.dynamic_batch
        package.export(form.model, form.inputs, path, "packed", dynamic, real_bits=8, calibration=inputs)
        twin = importlib.import_module("bnnapps.export.module").ExportedModule(
            package.load(path), form.model, form.inputs
        )
        file = dev_metrics(task, form.model, twin)
        before = dev_metrics(task, form.model)
        dev = {"model": {name: before[name] for name in file}, "file": file}
        found.append(_exported(folder, "packed", path, form.about) | {"real_bits": 8, "dev": dev})
    return found


def export_model(
    task: Task, model: nn.Module, folder: RunFolder, dialect: str, console: Console, target: str | None = None
) -> list[dict[str, Any]]:
    """Export a run's model into `export/<dialect>/model.onnx`, with its parity beside it; or all that it holds.

    With a target the folder is `export/<dialect>-<target>`.
    """
    package, found = _export_package(), []
    name = dialect if target is None else f"{dialect}-{target}"
    for form in task.export_forms(model):
        path = _export_path(folder, f"{name}{form.suffix}", console)
        dynamic = task.recipe.export.dynamic_batch
        package.export(form.model, form.inputs, path, dialect=dialect, dynamic_batch=dynamic, target=target)
        found.append(_exported(folder, name, path, form.about))
    return found


def _export_path(folder: RunFolder, name: str, console: Console) -> Path:
    path = folder.root / "export" / name / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    console.print(f"Exporting {path}", highlight=False)
    return path


def _exported(folder: RunFolder, dialect: str, path: Path, about: str) -> dict[str, Any]:
    found = {"dialect": dialect, "path": str(path.relative_to(folder.root)), "bytes": path.stat().st_size}
    return found | ({"about": about} if about else {})


def _export_package() -> Any:
    """`bnnapps.export` is a package that builds on this one, so it is found by name when it is asked for."""
    return importlib.import_module("bnnapps.export")


def open_run(root: str | Path, overrides: Sequence[str] = ()) -> tuple[Task, nn.Module, RunFolder]:
    """A finished run's task and trained model.

    Args:
        root: the folder.
        overrides: `export.KEY=VALUE`; the recipe in the folder stays as it is.

    Raises:
        UsageError: the folder is no finished run, or another key is to be changed.
    """
    folder = RunFolder(root)
    recipe = read_run_recipe(folder)
    for text in overrides:
        if not text.strip().startswith("export."):
            raise UsageError(f"--set {text!r}: of a finished run only the keys of 'export' can be changed")
    if overrides:
        values = recipe.model_dump(mode="json")
        change_values(values, overrides)
        recipe = as_recipe(values, f"{folder.recipe} with --set")
    if not folder.model.is_file():
        raise UsageError(
            f"'{folder.root}' has no model.ckpt: the run is not finished; go on with "
            f"`bnnapps run --resume {folder.root}`"
        )
    task = get_plugin(recipe.task).task(recipe)
    task.load_assets(folder.assets)
    return task, open_model(task, folder.model), folder


def read_run_recipe(folder: RunFolder) -> Recipe:
    """The resolved recipe of a run."""
    if not folder.recipe.is_file():
        raise UsageError(f"'{folder.root}' is no run of bnnapps: it has no recipe.yaml")
    return as_recipe(read_mapping(folder.recipe), str(folder.recipe))


def _check_folder(folder: RunFolder, recipe: Recipe, resume: bool) -> None:
    if folder.recipe.is_file():
        if not resume:
            raise UsageError(
                f"'{folder.root}' holds a run already: go on with `bnnapps run --resume {folder.root}`, or "
                "give another --out"
            )
        before, after = (r.model_dump(mode="json") for r in (read_run_recipe(folder), recipe))
        check_same(before, after, f"'{folder.root}' holds a run")
    elif folder.root.is_file():
        raise UsageError(f"'{folder.root}' is a file: give another --out")
    elif folder.root.exists() and any(folder.root.iterdir()):
        raise UsageError(f"'{folder.root}' exists and is not empty: give another --out")


def _save_assets(task: Task, folder: RunFolder) -> None:
    """Write the assets under another name first, so that a run killed meanwhile never finds half of them."""
    if folder.assets.is_dir():
        return
    partial = folder.root / ".assets.partial"
    shutil.rmtree(partial, ignore_errors=True)
    task.save_assets(partial)
    partial.rename(folder.assets)


def in_words(data: Mapping[str, Any]) -> str:
    """What `Task.describe` says, as one line: `miniglue sst2 (generated), train 64, dev 32`."""
    return ", ".join(str(v) if k == "data" else f"{k} {v}" for k, v in data.items())

"""Reading a run folder, finished or not: what is missing is `None`, what is damaged is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from bnnapps.binarize import Plan
from bnnapps.errors import BinarizeError, UsageError
from bnnapps.recipe.reader import read_yaml
from bnnapps.recipe.schema import ResolvedStage, TrainConfig
from bnnapps.report.records import BenchRecord, Costs, ParityRecord, RunResult, StageResult
from bnnapps.training.folder import RunFolder
from bnnapps.training.logger import read_metrics
from bnnapps.validation import explain

M = TypeVar("M", bound=BaseModel)

State = Literal["done", "in progress", "not begun"]


@dataclass(frozen=True)
class Stage:
    """One stage of the recipe, and what lies in its folder.

    Attributes:
        number: from 1.
        name: its name.
        settings: as the recipe has them, or `None`: the recipe cannot be read.
        plan: what it binarizes, or `None`: a float network, or a stage that has not begun.
        result: once it is done.
        state: how far it is.
        is_float: whether its network is known to stay real.

    """

    number: int
    name: str
    settings: ResolvedStage | None
    plan: Plan | None
    result: StageResult | None
    state: State
    is_float: bool


@dataclass(frozen=True)
class Export:
    """One folder below `export/`: the file, if it is there, and what its parity file and its measurement say."""

    dialect: str
    path: str
    bytes: int | None
    parity: ParityRecord | None
    bench: BenchRecord | None = None


@dataclass
class Run:
    """What a run folder holds. `problems` has a line for each file that is there and cannot be read."""

    folder: RunFolder
    recipe_text: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    plan: Plan | None = None
    costs: Costs | None = None
    result: RunResult | None = None
    exports: list[Export] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.result is not None

    @property
    def student(self) -> Stage | None:
        """The last stage that is done: its network is what the run gives."""
        return next((s for s in reversed(self.stages) if s.state == "done"), None)


def read_run(folder: RunFolder) -> Run:
    """Everything that the report shows. Never raises for a missing or damaged file."""
    run = Run(folder)
    run.recipe_text = _text(run, folder.recipe)
    run.recipe = _recipe(run)
    run.environment = _json(run, "environment.json")
    run.events = _events(run)
    run.stages = _stages(run)
    run.plan = _plan(run, "plan.json")
    run.costs = _record(run, "summary.json", Costs)
    run.result = _record(run, "result.json", RunResult)
    run.exports = _exports(run)
    return run


def _text(run: Run, path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        run.problems.append(f"{_relative(run, path)} cannot be read: {problem}")
        return None


def _recipe(run: Run) -> dict[str, Any]:
    if run.recipe_text is None:
        return {}
    try:
        values = read_yaml(run.recipe_text)
    except yaml.YAMLError as problem:
        run.problems.append(f"recipe.yaml is damaged: {' '.join(str(problem).split())}")
        return {}
    return values if isinstance(values, dict) else {}


def _json(run: Run, name: str) -> dict[str, Any] | None:
    path = run.folder.root / name
    if not path.is_file():
        return None
    try:
        data: Any = run.folder.read_json(name)
    except UsageError as problem:
        run.problems.append(str(problem).replace(str(path), name))
        return None
    if not isinstance(data, dict):
        run.problems.append(f"{name} is damaged: it holds a {type(data).__name__}, not a mapping")
        return None
    return data


def _record(run: Run, name: str, kind: type[M]) -> M | None:
    data = _json(run, name)
    if data is None:
        return None
    try:
        return kind.model_validate(data)
    except ValidationError as problem:
        run.problems.append(f"{name}: {explain(problem, kind)}")
        return None


def _plan(run: Run, name: str) -> Plan | None:
    data = _json(run, name)
    if data is None:
        return None
    try:
        return Plan.from_dict(data)
    except BinarizeError as problem:
        run.problems.append(f"{name}: {problem}")
        return None


def _events(run: Run) -> list[dict[str, Any]]:
    try:
        events: list[Any] = read_metrics(run.folder.root / "metrics.jsonl")
    except (OSError, UnicodeDecodeError) as problem:
        run.problems.append(f"metrics.jsonl cannot be read: {problem}")
        return []
    return [event for event in events if isinstance(event, dict)]


def _stages(run: Run) -> list[Stage]:
    settings = _settings(run)
    if settings:
        return [_stage(run, number, s.name, s) for number, s in enumerate(settings, 1)]
    found = []
    for path in (run.folder.root / "stages").glob("*-*"):
        number, _, name = path.name.partition("-")
        if number.isdecimal() and path.is_dir():
            found.append(_stage(run, int(number), name, None))
    return sorted(found, key=lambda s: s.number)


def _settings(run: Run) -> list[ResolvedStage]:
    if "train" not in run.recipe:
        return []
    try:
        return TrainConfig.model_validate(run.recipe["train"]).resolved()
    except ValidationError as problem:
        run.problems.append(f"recipe.yaml, train: {explain(problem, TrainConfig)}")
        return []


def _stage(run: Run, number: int, name: str, settings: ResolvedStage | None) -> Stage:
    path = run.folder.stage(number, name)
    relative = path.relative_to(run.folder.root).as_posix()
    plan = _plan(run, f"{relative}/plan.json")
    result = _record(run, f"{relative}/result.json", StageResult)
    state: State = "done" if result is not None else "not begun"
    if result is None and (path.is_dir() or any(e.get("stage") == name for e in run.events)):
        state = "in progress"
    is_float = state == "done" and not (path / "plan.json").exists()
    return Stage(number, name, settings, plan, result, state, is_float)


def _exports(run: Run) -> list[Export]:
    root = run.folder.root
    listed = {Path(e.path).parent.name: e for e in run.result.exports} if run.result is not None else {}
    names = [p.name for p in _folders(root / "export")]
    found = []
    for dialect in dict.fromkeys([*listed, *names]):
        path = listed[dialect].path if dialect in listed else f"export/{dialect}/model.onnx"
        size = (root / path).stat().st_size if (root / path).is_file() else None
        parity = _record(run, f"export/{dialect}/model.parity.json", ParityRecord)
        found.append(Export(dialect, path, size, parity, _bench(run, dialect, size)))
    return found


def _bench(run: Run, dialect: str, size: int | None) -> BenchRecord | None:
    """The measurement of an export, unless the file was written anew since."""
    name = f"export/{dialect}/model.bench.json"
    found = _record(run, name, BenchRecord)
    if found is not None and size is not None and found.bytes != size:
        run.problems.append(f"{name} was measured on another file than model.onnx: run `bnnapps bench` again")
        return None
    return found


def _folders(path: Path) -> Sequence[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else ()


def _relative(run: Run, path: Path) -> str:
    return path.relative_to(run.folder.root).as_posix()

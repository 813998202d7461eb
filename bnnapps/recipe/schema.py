"""What a recipe may say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bnnapps.validation import Options, Record


class BinarizeConfig(Record):
    """Which layers become binary: the arguments of `bnnapps.binarize`."""

    method: str | None = None
    """A method's name: its own rules come first."""
    overrides: Options = Field(default_factory=dict)
    """Changes to the parts of the method, such as `activation_bits: 2`; a kind of layer without the part ignores it."""
    rules: list[dict[str, Any]] = Field(default_factory=list)
    """Further rules, each with `match`, `types`, and one of `use` and `keep`."""
    keep_first: int | None = Field(default=None, ge=0)
    """How many first layers stay real; by default the method's own count, or 1."""
    keep_last: int | None = Field(default=None, ge=0)
    """1 keeps every head real; by default the method's own count, or 1."""

    @model_validator(mode="after")
    def _says_something(self) -> BinarizeConfig:
        if self.method is None and not self.rules:
            raise ValueError("give 'method' (a name), 'rules' (a list), or both")
        return self

    def as_rules(self) -> dict[str, Any]:
        """In the form that `bnnapps.plan` takes."""
        return {k: v for k, v in self.model_dump().items() if v not in (None, [], {})}


OptimizerName = Literal["adamw", "adam", "sgd", "radam", "nadam", "rmsprop"]


class ScheduleConfig(Record):
    """The learning rate over the training, as a factor of `lr` (for Bop, gamma as a factor of `gamma`)."""

    name: Literal["linear", "cosine", "constant", "step", "exponential"] = "linear"
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the steps in which the factor rises from 0 to 1."""
    milestones: list[float] = Field(default_factory=list)
    """For `step`: fractions of the training at which the factor drops."""
    gamma: float = Field(default=0.1, gt=0)
    """For `step`: what each drop multiplies by."""
    end: float = Field(default=0.0, ge=0, le=1)
    """For `linear`, `cosine` and `exponential`: the factor at the end of the training."""

    @model_validator(mode="after")
    def _can_fall(self) -> ScheduleConfig:
        if self.name == "exponential" and self.end == 0.0:
            raise ValueError("an exponential schedule never reaches 0: give 'end', the factor at the end, such as 1e-3")
        return self


class GroupConfig(Record):
    """Settings of their own for some parameters."""

    of: Literal["latent", "parts", "no_decay", "rest", "all"] = "all"
    """`latent`: weights of binary layers; `parts`: what their binarizers learn; `no_decay`: biases and norms."""
    match: str | None = None
    """A glob on the parameter's name, beside `of`."""
    optimizer: OptimizerName | Literal["bop"] | None = None
    """Another optimizer than the recipe's, with the same betas, eps and momentum; `bop` flips signs (latent only)."""
    lr: float | None = Field(default=None, gt=0)
    """Instead of the stage's."""
    lr_scale: float | Literal["glorot"] = 1.0
    """Times the learning rate; `glorot`: 1 / sqrt(1.5 / (fan_in + fan_out)) of each weight, as BNN published."""
    weight_decay: float | None = Field(default=None, ge=0)
    gamma: float | None = Field(default=None, gt=0, le=1)
    """For `bop`: how much of the averaged gradient each step replaces; 1e-4 by default. Its schedule moves it."""
    threshold: float | None = Field(default=None, ge=0)
    """For `bop`: the averaged gradient at which a weight flips; 1e-8 by default."""
    schedule: ScheduleConfig | None = None
    """Instead of the stage's."""

    @model_validator(mode="after")
    def _fits_the_optimizer(self) -> GroupConfig:
        if isinstance(self.lr_scale, float) and self.lr_scale < 0:
            raise ValueError(f"lr_scale is {self.lr_scale}: it must not be negative")
        if self.optimizer == "bop":
            if self.lr is not None or self.lr_scale != 1.0 or self.weight_decay is not None:
                raise ValueError("bop has no learning rate and no decay: give 'gamma' and 'threshold' instead")
        elif self.gamma is not None or self.threshold is not None:
            raise ValueError("'gamma' and 'threshold' belong to a group with 'optimizer: bop'")
        return self


class OptimizerConfig(Record):
    """The optimizer, by its class in `torch.optim`, in lower case."""

    name: OptimizerName = "adamw"
    weight_decay: float = Field(default=0.01, ge=0)
    """Not for biases, norms and learned scales, unless a group says so."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """For `sgd` and `rmsprop`."""
    groups: list[GroupConfig] = Field(default_factory=list)
    """The first group that fits a parameter takes it."""

    @field_validator("betas", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class LossConfig(Record):
    """One term of the loss, by its name in `bnnapps list losses`."""

    name: str
    weight: float = 1.0
    start: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the training at which the term begins to count."""
    stop: float = Field(default=1.0, ge=0, le=1)
    """Fraction of the training at which it stops."""
    options: Options = Field(default_factory=dict)
    """Of the loss itself, such as `label_smoothing: 0.1` of `task`."""


class Training(Record):
    """How one network is trained; every field may also stand in a stage, for that stage alone."""

    epochs: int | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps, instead of epochs."""
    lr: float = Field(default=1e-4, gt=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    losses: list[LossConfig] = Field(default_factory=lambda: [LossConfig(name="task")])
    teacher: str | dict[str, Any] | None = None
    """An earlier stage's name, a checkpoint's path, or what the task knows: `{torchvision: resnet34}`."""
    init: str | None = None
    """Where the weights come from: an earlier stage's name, or a checkpoint's path; `null`: the model as configured."""
    select: Literal["best", "last"] = "best"
    """Which epoch's weights a stage hands on: the best on the dev set (as GLUE papers report), or the last."""
    checkpoint_every: int | None = Field(default=None, gt=0)
    """Also write a checkpoint every so many steps; at every epoch's end one is written anyway."""
    log_layers: bool = True
    """Log for each binary layer, every epoch, how many signs flipped and how much lies where no gradient passes."""


class StageConfig(Record):
    """One stage: a name, a binarization or none, and whatever differs from `train`."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    binarize: BinarizeConfig | Literal[False] | None = None
    """`false`: a float network; left out: the recipe's own `binarize`."""
    width: float | None = Field(default=None, gt=0, le=1)
    """Keep this fraction of the heads and of the inner features of each block (BinaryBERT starts at 0.5)."""
    epochs: int | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    lr: float | None = Field(default=None, gt=0)
    optimizer: OptimizerConfig | None = None
    schedule: ScheduleConfig | None = None
    losses: list[LossConfig] | None = None
    teacher: str | dict[str, Any] | None = None
    init: str | None = None
    select: Literal["best", "last"] | None = None
    checkpoint_every: int | None = Field(default=None, gt=0)
    log_layers: bool | None = None


class TrainConfig(Training):
    """The training: one network, or several stages in a row."""

    stages: list[StageConfig] = Field(default_factory=list)
    """In order; a stage may name an earlier one as its teacher and as its start."""

    @model_validator(mode="after")
    def _stages_fit(self) -> TrainConfig:
        if not self.stages:
            _one_length("train", self.epochs, self.steps)
        names = [stage.name for stage in self.stages]
        for i, stage in enumerate(self.stages):
            own = stage.epochs is not None or stage.steps is not None
            source = stage if own else self
            _one_length(f"stage '{stage.name}'", source.epochs, source.steps)
            if stage.name in names[:i]:
                raise ValueError(f"two stages are named '{stage.name}'")
        return self

    def resolved(self) -> list[ResolvedStage]:
        """The stages with everything filled in; a recipe without stages has one, named `train`."""
        base = {k: getattr(self, k) for k in Training.model_fields}
        if not self.stages:
            return [ResolvedStage(name="train", binarize=None, width=None, **base)]
        found = []
        for stage in self.stages:
            own = {k: getattr(stage, k) for k in Training.model_fields if getattr(stage, k) is not None}
            if "epochs" in own or "steps" in own:
                own = {"epochs": None, "steps": None} | own
            found.append(ResolvedStage(name=stage.name, binarize=stage.binarize, width=stage.width, **base | own))
        return found


def _one_length(label: str, epochs: int | None, steps: int | None) -> None:
    if (epochs is None) == (steps is None):
        both = "" if epochs is None else f", and null for the other: epochs is {epochs} and steps is {steps}"
        raise ValueError(f"{label}: give exactly one of 'epochs' and 'steps'{both}")


class ResolvedStage(Training):
    """A stage that stands on its own."""

    name: str
    binarize: BinarizeConfig | Literal[False] | None
    width: float | None


class ExportConfig(Record):
    """What is exported when the training is done."""

    dialects: list[Literal["portable", "packed", "qonnx"]] = Field(default_factory=list)
    dynamic_batch: bool = True


class Recipe(Record):
    """A recipe: what to train, on what, how, and what to export. A task's own class completes `data` and `model`."""

    task: str
    """The plugin: see `bnnapps list tasks`."""
    seed: int = Field(default=42, ge=0)
    data: Record
    model: Record
    binarize: BinarizeConfig | None = None
    train: TrainConfig
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Passed to Lightning's Trainer as it is."""
    export: ExportConfig = ExportConfig()
    profile: str | None = None
    """Which entry of `profiles` to lay over the recipe."""
    profiles: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Named sets of changes: dotted keys or nested mappings."""

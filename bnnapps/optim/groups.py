"""Which parameters train how."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from bnnapps.errors import RecipeError
from bnnapps.nn.layers.base import PARTS, BinaryLayer
from bnnapps.nn.spec import WeightSpec
from bnnapps.nn.weights import WeightBinarizer
from bnnapps.recipe.schema import GroupConfig, OptimizerConfig, ScheduleConfig

_GAMMA, _THRESHOLD = 1e-4, 1e-8


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that train alike.

    Attributes:
        optimizer: by its name in recipes.
        rate: the learning rate at the top of the schedule; Bop's gamma.
        schedule: of the rate, or `None`: the stage's own.
        weight_decay: not for Bop.
        threshold: for Bop alone.
        params: the parameters.

    """

    optimizer: str
    rate: float
    schedule: ScheduleConfig | None
    weight_decay: float
    threshold: float | None = None
    params: list[nn.Parameter] = field(default_factory=list)

    @property
    def moves(self) -> str:
        """The key that the schedule changes in the optimizer's groups."""
        return "gamma" if self.optimizer == "bop" else "lr"

    def settings(self) -> dict[str, Any]:
        """In the form that an optimizer takes."""
        more = {"weight_decay": self.weight_decay} if self.threshold is None else {"threshold": self.threshold}
        return {"params": self.params, self.moves: self.rate, **more}


def parameter_kinds(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, str]]:
    """Each trainable parameter once, with its name and kind.

    Kinds: `latent` (the weight of a binary layer), `parts` (what its binarizers learn; the two weights of a split
    layer are latent), `no_decay` (biases and norms: one dimension), `rest`.
    """
    latent = set()
    for module in model.modules():
        if isinstance(module, BinaryLayer):
            latent |= {id(p) for p in module.parameters(recurse=False) if p.dim() > 1}
            latent |= {id(_whole(weight)) for _, weight, _ in module.latents()}
        if isinstance(module, WeightBinarizer):  # the two halves of a split weight
            latent |= {id(p) for p in module.parameters(recurse=False)}
    seen: set[int] = set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or id(parameter) in seen:
            continue
        seen.add(id(parameter))
        if id(parameter) in latent:
            kind = "latent"
        elif f".{PARTS}." in f".{name}":
            kind = "parts"
        else:
            kind = "no_decay" if parameter.dim() <= 1 else "rest"
        yield name, parameter, kind


def parameter_groups(model: nn.Module, config: OptimizerConfig, lr: float) -> list[ParameterGroup]:
    """Groups of parameters: the first configured group that fits takes a parameter.

    Parameters that none takes train with `lr` and the configured decay; biases, norms and learned scales without decay.
    Groups of one optimizer stand together, those of the recipe's own first.

    Raises:
        RecipeError: a configured group takes no parameter, or one that its settings do not fit.

    """
    groups: dict[tuple[Any, ...], ParameterGroup] = {}
    used = [False] * len(config.groups)
    signs = _plain_signs(model)
    for name, parameter, kind in parameter_kinds(model):
        taken = next((i for i, group in enumerate(config.groups) if _takes(group, name, kind)), None)
        chosen = GroupConfig() if taken is None else config.groups[taken]
        if taken is not None:
            used[taken] = True
        if chosen.optimizer == "bop" and id(parameter) not in signs:
            raise RecipeError(
                f"{_label(chosen)} gives '{name}' to bop, which flips signs, but that is no weight whose sign is what "
                "its layer multiplies with: take 'of: latent', and a method without a transform of the weight"
            )
        made = _group(chosen, name, parameter, kind, config, lr)
        schedule = None if made.schedule is None else made.schedule.model_dump_json()
        key = (made.optimizer, made.rate, made.weight_decay, made.threshold, schedule)
        groups.setdefault(key, made).params.append(parameter)
    for group, takes_any in zip(config.groups, used, strict=True):
        if not takes_any:
            raise RecipeError(f"{_label(group)} takes no parameter of this model")
    return _together(list(groups.values()), config.name)


def _group(
    chosen: GroupConfig, name: str, parameter: nn.Parameter, kind: str, config: OptimizerConfig, lr: float
) -> ParameterGroup:
    if chosen.optimizer == "bop":
        gamma = _GAMMA if chosen.gamma is None else chosen.gamma
        threshold = _THRESHOLD if chosen.threshold is None else chosen.threshold
        return ParameterGroup("bop", gamma, chosen.schedule, 0.0, threshold)
    decay = 0.0 if kind in ("parts", "no_decay") else config.weight_decay
    scale = _glorot(parameter, name, chosen) if chosen.lr_scale == "glorot" else float(chosen.lr_scale)
    return ParameterGroup(
        optimizer=config.name if chosen.optimizer is None else chosen.optimizer,
        rate=(lr if chosen.lr is None else chosen.lr) * scale,
        schedule=chosen.schedule,
        weight_decay=decay if chosen.weight_decay is None else chosen.weight_decay,
    )


def _glorot(parameter: nn.Parameter, name: str, group: GroupConfig) -> float:
    """1 / sqrt(1.5 / (fan_in + fan_out)), fans counting kernel positions (BNN, Courbariaux et al., 2016)."""
    if parameter.dim() < 2:
        raise RecipeError(f"{_label(group)} has lr_scale 'glorot', but '{name}' has no fan-in: take 'of: latent'")
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(parameter)
    return float(((fan_in + fan_out) / 1.5) ** 0.5)


def _plain_signs(model: nn.Module) -> set[int]:
    """The weights, by id, whose own sign is the code that their layer multiplies with."""
    found = set()
    for layer in model.modules():
        if isinstance(layer, BinaryLayer):
            found |= {id(_whole(weight)) for _, weight, binarizer in layer.latents() if _is_sign(binarizer.spec)}
    return found


def _whole(weight: Tensor) -> Tensor:
    """The parameter that a weight is a part of (the three projections of an attention lie in one)."""
    base = weight._base
    return weight if base is None else base


def _is_sign(spec: WeightSpec) -> bool:
    plain = spec.kind == "binary" and spec.transform == "none" and spec.scale != "affine"
    return plain and spec.constraint != "centre_clip"


def _takes(group: GroupConfig, name: str, kind: str) -> bool:
    return group.of in ("all", kind) and (group.match is None or fnmatch.fnmatchcase(name, group.match))


def _label(group: GroupConfig) -> str:
    label = f"of: {group.of}" + (f", match: {group.match}" if group.match else "")
    return f"train.optimizer.groups: the group {{{label}}}"


def _together(groups: Sequence[ParameterGroup], first: str) -> list[ParameterGroup]:
    """The groups with those of one optimizer in a row, in order of appearance, the named one first."""
    names = list(dict.fromkeys([first, *(g.optimizer for g in groups)]))
    return [g for name in names for g in groups if g.optimizer == name]

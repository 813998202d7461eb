"""From plan to binary model and back."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bnnapps.binarize.bypasses import close_bypasses, reopen_bypasses
from bnnapps.binarize.checks import check_layer, check_model
from bnnapps.binarize.plan import Plan, plan
from bnnapps.binarize.registry import type_of
from bnnapps.binarize.rules import RulesLike
from bnnapps.errors import BinarizeError
from bnnapps.nn.layers.base import BinaryLayer, parts_of_twin, to_binary, to_float

_PLAN = "_bnnapps_plan"


def binarize(
    model: nn.Module,
    rules: RulesLike,
    *,
    keep_first: int | None = None,
    keep_last: int | None = None,
    example_inputs: Any = None,
) -> nn.Module:
    """Make the layers that the rules choose binary, in place, and return the model.

    Parameters, names, hooks and flags stay; each binary layer gains a child `binary` with what the method learns
    beyond the weights. Arguments and errors as in `plan`; on an error nothing has changed.
    """
    return apply_plan(
        model,
        plan(model, rules, keep_first=keep_first, keep_last=keep_last, example_inputs=example_inputs),
    )


def apply_plan(model: nn.Module, the_plan: Plan) -> nn.Module:
    """Carry out a plan, strictly: every layer that it names must be there, with the class that it had.

    Raises:
        BinarizeError: the model is another one than the plan was made for.

    """
    check_model(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    work = []
    for entry in the_plan.binarized:
        module = modules.get(entry.name)
        if module is None or any(modules.get(n) is not module for n in entry.names):
            raise BinarizeError(f"the plan names the layer '{entry.name}', which this model does not have")
        found = type_of(module)
        if found is None or found.key != entry.type or type(module).__name__ != entry.kind:
            raise BinarizeError(
                f"the plan has '{entry.name}' as a {entry.kind} ({entry.type}); in this model it is a "
                f"{type(module).__name__}"
            )
        check_layer(entry.name, module)
        parameters = sum(p.numel() for p in module.parameters(recurse=False))
        if parameters != entry.parameters:
            raise BinarizeError(
                f"the plan has '{entry.name}' with {entry.parameters} parameters; in this model it has {parameters}"
            )
        assert entry.spec is not None
        twin = found.twin_for(module)
        twin.check_spec(entry.name, module, entry.spec)
        work.append((module, twin, entry.spec, parts_of_twin(twin, module, entry.spec)))
    for module, twin, spec, parts in work:
        to_binary(module, twin, spec, parts)
    close_bypasses(model)
    model.__dict__[_PLAN] = the_plan
    return model


def restore(model: nn.Module) -> nn.Module:
    """The exact inverse of `binarize`, in place: the float model with the latent weights as they now are.

    Raises:
        BinarizeError: the model is not binarized.

    """
    plan_of(model)
    for module in list(model.modules()):
        if isinstance(module, BinaryLayer):
            to_float(module)
    reopen_bypasses(model)
    del model.__dict__[_PLAN]
    return model


def plan_of(model: nn.Module) -> Plan:
    """The plan that was applied to the model.

    Raises:
        BinarizeError: none was.

    """
    found = model.__dict__.get(_PLAN)
    if not isinstance(found, Plan):
        raise BinarizeError(f"this {type(model).__name__} is not binarized: call bnnapps.binarize first")
    return found


def is_binarized(model: nn.Module) -> bool:
    """Whether a plan was applied to the model."""
    return isinstance(model.__dict__.get(_PLAN), Plan)


def apply_constraints(model: nn.Module) -> None:
    """Apply every binary layer's constraint on its latent parameters. Call it after each optimizer step."""
    for module in model.modules():
        if isinstance(module, BinaryLayer):
            module.constrain()


def binary_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The weights that deployment multiplies with (scale * code, by parameter name), for every binary layer.

    `state_dict()` has the latent weights, which are real numbers: training needs them.
    """
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer):
            prefix = f"{name}." if name else ""
            found |= {prefix + key: value for key, value in module.binary_tensors().items()}
    return found

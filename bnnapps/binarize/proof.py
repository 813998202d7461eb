"""Proof that every replaced layer computes."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from bnnapps.binarize.plan import Plan
from bnnapps.errors import BinarizeError, nearest
from bnnapps.forward import run_model
from bnnapps.nn.layers import BinaryLayer


def assert_ran(plan: Plan, model: nn.Module, example_inputs: Any, *, idle: Sequence[str] = ()) -> None:
    """Run the model once in eval mode and check that the binary computation of every planned layer executed.

    Args:
        plan: what was applied.
        model: the binarized model.
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
        idle: layers that the model itself leaves out in eval mode or on these inputs (the auxiliary heads of an
            Inception network), as names or globs.

    Raises:
        BinarizeError: a layer is missing, is not binary, or did not compute; each is named.

    """
    modules = dict(model.named_modules(remove_duplicate=False))
    twins: dict[str, BinaryLayer[Any]] = {}
    for entry in plan.binarized:
        module = modules.get(entry.name)
        if not isinstance(module, BinaryLayer):
            state = "missing" if module is None else f"a {type(module).__name__}, not binary"
            raise BinarizeError(f"'{entry.name}' is planned to be binary, but it is {state}")
        twins[entry.name] = module
    for pattern in idle:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in twins):
            raise BinarizeError(
                f"idle: no binary layer is called '{pattern}'; the nearest are {nearest(pattern, twins)}"
            )
    ran: set[str] = set()

    def watch(name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            ran.add(name)
            return compute(*args, **kwargs)

        return watched

    own = {name: twin.__dict__[twin.probe] for name, twin in twins.items() if twin.probe in twin.__dict__}
    for name, twin in twins.items():
        twin.__dict__[twin.probe] = watch(name, getattr(twin, twin.probe))
    try:
        with torch.no_grad():
            run_model(model, example_inputs)
    finally:
        for name, twin in twins.items():
            del twin.__dict__[twin.probe]
            if name in own:
                twin.__dict__[twin.probe] = own[name]
    missed = [n for n in twins if n not in ran and not any(fnmatch.fnmatchcase(n, pattern) for pattern in idle)]
    if missed:
        shown = ", ".join(f"'{n}'" for n in missed[:5])
        raise BinarizeError(
            f"{len(missed)} of {len(twins)} binary layers did not compute on these inputs: {shown}. Something passes "
            "them by (a fused path, a parent that reads their weights), or the inputs do not reach them; name what the "
            "model itself leaves out in 'idle'"
        )

"""Proof that every replaced layer computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bnnapps.binarize.plan import Plan
from bnnapps.errors import BinarizeError
from bnnapps.forward import run_model
from bnnapps.nn.layers import BinaryLayer


def assert_ran(plan: Plan, model: nn.Module, example_inputs: Any) -> None:
    """Run the model once in eval mode and check that the binary computation of every planned layer executed.

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
    idle = [name for name in twins if name not in ran]
    if idle:
        shown = ", ".join(f"'{n}'" for n in idle[:5])
        raise BinarizeError(
            f"{len(idle)} of {len(twins)} binary layers did not compute on these inputs: {shown}. Something passes "
            "them by (a fused path, a parent that reads their weights), or the inputs do not reach them"
        )

"""What losses on feature maps watch: the output of every residual stage."""

from __future__ import annotations

import re

from torch import nn

from bnnapps.errors import UsageError

STAGES = "stages"
"""The tap of the stages' outputs, (N, C, H, W) each."""

_CHILD = re.compile(r"(layer|stage|block)_?\d+")
_LIST = ("stages", "layers", "blocks")


def stage_names(network: nn.Module) -> list[str]:
    """The dotted names of a network's stages: `layer1` and so on in a ResNet, else the members of a list `stages`.

    Raises:
        UsageError: the network has no such modules.
    """
    children = dict(network.named_children())
    named = [name for name in children if _CHILD.fullmatch(name)]
    if named:
        return sorted(named, key=lambda name: int(re.sub(r"\D", "", name)))
    for name in _LIST:
        if isinstance(children.get(name), (nn.Sequential, nn.ModuleList)):
            return [f"{name}.{inner}" for inner, _ in children[name].named_children()]
    raise UsageError(
        f"{type(network).__name__} has no stages that a loss on attention maps could compare: expected modules "
        "'layer1', 'layer2' and so on, or a list 'stages'"
    )

"""Running the deployed model in torch while its quantizers and products are watched, or led."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.export.graph.freeze import Frozen
from bnnapps.export.graph.inputs import Inputs, Tensors
from bnnapps.export.graph.trace import outputs_of
from bnnapps.export.passes.sites import call_name


@dataclass
class Replay:
    """What happened in one run.

    Attributes:
        outputs: by name.
        inputs, codes: of each quantizer, by site.
        chosen: the scores that each choice among boxes left, and what each front gave, by site.

    """

    outputs: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    codes: dict[str, Tensor] = field(default_factory=dict)
    chosen: dict[str, Tensor] = field(default_factory=dict)


@torch.no_grad()
def replay(frozen: Frozen, inputs: Inputs, tensors: Tensors, lead: Mapping[str, Tensor] | None = None) -> Replay:
    """Run the deployed model.

    Args:
        frozen: the model.
        inputs: how it is called.
        tensors: with what.
        lead: codes by site, which take the place of what the quantizers give, and likewise scores of choices and
            outputs of fronts. So a rounding difference in front of one does not reach the next, and every layer can be
            compared by itself.

    """
    record = Replay()
    calls: Counter[str] = Counter()

    def watch(site: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], codes: Tensor) -> Tensor | None:
            calls[site] += 1
            name = call_name(site, calls[site])
            record.inputs[name] = args[0]
            record.codes[name] = codes
            return None if lead is None else lead.get(name)

        return hook

    def choose(site: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> Tensor | None:
            calls[site] += 1
            name = call_name(site, calls[site])
            record.chosen[name] = result
            return None if lead is None else lead.get(name)

        return hook

    handles = [quantizer.register_forward_hook(watch(site)) for site, quantizer in frozen.quantizers().items()]
    others = {**frozen.choices(), **frozen.fronts()}
    handles += [module.register_forward_hook(choose(site)) for site, module in others.items()]
    try:
        record.outputs = outputs_of(inputs.call(frozen.model, tensors))
    finally:
        for handle in handles:
            handle.remove()
    return record

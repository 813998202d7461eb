"""Sizes that a record leaves open and that the example inputs tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bnnapps.errors import BinarizeError
from bnnapps.forward import run_model
from bnnapps.nn.output import POSITIONAL
from bnnapps.nn.spec import ConvSpec

if TYPE_CHECKING:
    from bnnapps.binarize.plan import Entry


def with_output_sizes(model: nn.Module, entries: Sequence[Entry], example_inputs: Any) -> tuple[Entry, ...]:
    """The entries, with `output.size` filled in where a learned factor depends on the position of the output.

    Raises:
        BinarizeError: such a size is needed, and there are no example inputs, or the layer does not run on them.
    """
    wanted = [e.name for e in entries if _lacks_size(e)]
    if not wanted:
        return tuple(entries)
    if example_inputs is None:
        raise BinarizeError(
            f"'{wanted[0]}': output.scale has a number for each position of the output, whose size is not known: give "
            "example_inputs, set output.size, or take output.scale 'channel'"
        )
    sizes = _observed(model, wanted, example_inputs)
    return tuple(_with_size(e, sizes) if e.name in wanted else e for e in entries)


def _lacks_size(entry: Entry) -> bool:
    spec = entry.spec
    if not isinstance(spec, ConvSpec) or spec.output is None:
        return False
    return spec.output.scale in POSITIONAL and spec.output.size is None


def _observed(model: nn.Module, names: Sequence[str], example_inputs: Any) -> dict[str, tuple[int, ...]]:
    modules = dict(model.named_modules())
    sizes: dict[str, tuple[int, ...]] = {}

    def look(name: str, module: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            size = tuple(output.shape[-len(module.kernel_size) :])
            if sizes.setdefault(name, size) != size:
                raise BinarizeError(
                    f"'{name}': output.scale has a number for each position, but the layer gives outputs of "
                    f"{sizes[name]} and of {size}: take output.scale 'channel'"
                )

    handles = [modules[n].register_forward_hook(lambda m, a, out, n=n: look(n, m, out)) for n in names]
    try:
        with torch.no_grad():
            run_model(model, example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    return sizes


def _with_size(entry: Entry, sizes: dict[str, tuple[int, ...]]) -> Entry:
    if entry.name not in sizes:
        raise BinarizeError(
            f"'{entry.name}' does not run on the example inputs, so the size of its output is not known: set "
            "output.size, or take output.scale 'channel'"
        )
    assert isinstance(entry.spec, ConvSpec)
    assert entry.spec.output is not None
    output = entry.spec.output.model_copy(update={"size": sizes[entry.name]})
    return dataclasses.replace(entry, spec=entry.spec.model_copy(update={"output": output}))

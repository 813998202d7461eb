"""Whether a packed file computes what the model computes: by its function bodies in plain ONNX Runtime, and by kernels.

The comparison is that of `parity`, with other evidence in its locked part: ONNX Runtime hands out the inputs and
outputs of every node of the domain, and the numpy golden model must make the very same outputs from the same inputs,
integers, bits and floats alike. That the golden graph is the network's is what the led part shows: torch, led by the
file's bits, must find the same bits itself, but where its input is at a threshold within rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import ModelProto
from onnx.helper import get_attribute_value
from torch import Tensor

from bnnapps.errors import ExportError
from bnnapps.export.flow import compare_led
from bnnapps.export.graph.freeze import Frozen
from bnnapps.export.graph.inputs import Inputs, Tensors
from bnnapps.export.graph.replay import Replay, replay
from bnnapps.export.ir.operators import DOMAIN, compute
from bnnapps.export.parity import Checker, Parity, parity_of
from bnnapps.export.passes.packed.bits import PackedSite, codes_from, compare_codes, lead_of
from bnnapps.export.passes.packed.carry import values_of
from bnnapps.export.passes.sites import Site
from bnnapps.export.session import LEVELS, session_of
from bnnapps.kernels.library import library_path

KERNEL_LEVELS = ("DISABLE_ALL", "ALL")


def check_packed_parity(
    model: ModelProto,
    frozen: Frozen,
    inputs: Inputs,
    samples: Sequence[Tensors],
    sites: Sequence[Site],
    packed: Mapping[str, PackedSite],
) -> Parity:
    """Compare a packed file with its model: by function bodies at every level, and by kernels where they are installed.

    Args:
        model: the file, with its functions.
        frozen: the model and its deployed form.
        inputs: how it is called.
        samples: with what.
        sites: the quantizers and products that the graph had before it was packed.
        packed: the quantizers whose codes are bits.

    Raises:
        ExportError: a difference that rounding does not explain; node or layer, and level, are named.

    """
    free = [replay(frozen, inputs, tensors) for tensors in samples]
    checker = PackedChecker(model, frozen, inputs, tuple(sites), packed, kernels=False)
    levels = [checker.level(level, samples, free) for level in LEVELS]
    if library_path() is not None:
        checker = PackedChecker(model, frozen, inputs, tuple(sites), packed, kernels=True)
        for level in KERNEL_LEVELS:
            record = checker.level(level, samples, free)
            levels.append(replace(record, level=f"{level} with kernels"))
    layers = {"quantizers": len(packed), "exact_products": len(checker.nodes) - checker.moves}
    return parity_of(tuple(levels), samples, layers)


class PackedChecker(Checker):
    """One packed file against one model, by function bodies or by kernels."""

    def __init__(
        self,
        model: ModelProto,
        frozen: Frozen,
        inputs: Inputs,
        sites: tuple[Site, ...],
        packed: Mapping[str, PackedSite],
        kernels: bool,
    ) -> None:
        self.packed, self.kernels, self.sites = packed, kernels, sites
        self.nodes = [node for node in model.graph.node if node.domain == DOMAIN]
        self.moves = sum(node.op_type in ("Pack", "Unpack", "BinaryMaxPool") for node in self.nodes)
        self.constants = {one.name: _array(one) for one in model.graph.initializer}
        super().__init__(model, frozen, inputs, sites)

    def _wanted(self, model: ModelProto) -> set[str]:
        made = values_of(model)
        wanted = {name for node in self.nodes for name in (*node.input, *node.output)}
        wanted |= {site.bits for site in self.packed.values()} | {site.result for site in self.sites}
        wanted |= self._wanted_of_others()
        return wanted & made

    def _session(self, model: bytes, level: str) -> Any:
        return session_of(model, level, kernels=self.kernels)

    def _locked(self, level: str, values: dict[str, Tensor]) -> int:
        """Every node of the domain by itself, from the runtime's own operands."""
        compared = 0
        for node in self.nodes:
            operands = [self.constants[n] if n in self.constants else values[n].numpy() for n in node.input]
            attributes = {one.name: get_attribute_value(one) for one in node.attribute}
            for name, expected in zip(node.output, compute(node.op_type, attributes, operands), strict=True):
                found = values[name].numpy()
                if found.shape != expected.shape or not np.array_equal(
                    found, expected, equal_nan=expected.dtype.kind == "f"
                ):
                    wrong = (
                        "another shape" if found.shape != expected.shape else f"{int((found != expected).sum())} wrong"
                    )
                    by = "the kernels" if self.kernels else "the function bodies"
                    raise ExportError(
                        f"node '{node.name}' ({node.op_type}): at {level} {by} give {wrong} of {expected.size} values "
                        f"for '{name}', for the very inputs that ONNX Runtime gave it"
                    )
                compared += expected.size
        self._same_others(level, values)
        return compared

    def _led(self, level: str, tensors: Tensors, values: dict[str, Tensor]) -> float:
        free = replay(self.frozen, self.inputs, tensors)
        lead = lead_of(self.packed, self.sites, values, free)
        led = replay(self.frozen, self.inputs, tensors, lead)
        compare_codes(f"at {level}", self.packed, values, led)
        outputs = dict(zip(self.outputs, led.outputs.values(), strict=True))
        return compare_led(f"at {level}", outputs, values)

    def _flips(self, values: dict[str, Tensor], free: Replay) -> tuple[int, int]:
        flips = total = 0
        for name, site in self.packed.items():
            if site.bits in values:
                theirs = free.codes[name]
                total += theirs.numel()
                flips += int((codes_from(site, values[site.bits], theirs) != theirs).sum())
        return flips, total


def _array(tensor: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)

"""Codes that are bits in a graph, and how they compare with torch's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bnnapps.errors import ExportError
from bnnapps.export.compare import FLOOR, ROUNDING, typical_size
from bnnapps.export.graph.replay import Replay
from bnnapps.export.ir.bits import unpack_bits
from bnnapps.export.passes.sites import LEADING, Site


@dataclass(frozen=True)
class PackedSite:
    """A quantizer whose codes are bits.

    Attributes:
        name: its site.
        bits: the value that holds them.
        axis: where the channels of the codes lie that are packed.
        low: the low code.
        threshold: the exact threshold of its input, broadcast along `axis` as the quantizer's shift is.

    """

    name: str
    bits: str
    axis: int
    low: float
    threshold: Tensor


def codes_from(site: PackedSite, bits: Tensor, like: Tensor) -> Tensor:
    """The codes as torch has them, from bits; `like` has their shape."""
    codes = torch.from_numpy(unpack_bits(bits.numpy(), like.shape[site.axis], site.low))
    return codes.to(torch.float32).movedim(-1, site.axis)


def lead_of(
    packed: Mapping[str, PackedSite], sites: Sequence[Site], values: Mapping[str, Tensor], free: Replay
) -> dict[str, Tensor]:
    """The graph's codes by site, as far as it has them, and what its choices and fronts gave."""
    watched = [site for site in sites if site.role in LEADING]
    lead = {site.name: values[site.result] for site in watched if site.result in values}
    for name, site in packed.items():
        if site.bits in values:
            lead[name] = codes_from(site, values[site.bits], free.codes[name])
    return lead


def compare_codes(where: str, packed: Mapping[str, PackedSite], values: Mapping[str, Tensor], led: Replay) -> int:
    """How many codes differ from torch's, which was led by the graph's codes in front of each quantizer.

    Raises:
        ExportError: one differs although its input is farther from the threshold than rounding explains.

    """
    flips = 0
    for name, site in packed.items():
        if site.bits not in values:
            continue
        theirs, x = led.codes[name], led.inputs[name]
        different = codes_from(site, values[site.bits], theirs) != theirs
        if not bool(different.any()):
            continue
        flips += int(different.sum())
        far = (x - site.threshold).abs() > FLOOR + ROUNDING * max(typical_size(x), 1e-30)
        wrong = int((different & far).sum())
        if wrong:
            raise ExportError(f"{where}: {wrong} bits of '{name}' differ from torch's codes by more than rounding")
    return flips

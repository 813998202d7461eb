"""What the further bases of a block (Group-Net) are made of: the records of the block's own convolutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnnapps.errors import BinarizeError
from bnnapps.nn.spec import BlockSpec, ConvSpec

if TYPE_CHECKING:
    from bnnapps.binarize.plan import Entry

BASES_OF = "residual_block"
"""The layer type whose branch can stand there several times."""
_LARGEST = 3


def with_base_convs(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The entries, with `convs` filled in where a block has several bases and the rules do not say theirs.

    Raises:
        BinarizeError: another type of block is given several bases or dilations.
    """
    by_name = {name: entry for entry in entries for name in entry.names}
    return tuple(_filled(entry, by_name) for entry in entries)


def _filled(entry: Entry, by_name: dict[str, Entry]) -> Entry:
    spec = entry.spec
    if not isinstance(spec, BlockSpec) or (spec.bases == 1 and spec.dilations is None):
        return entry
    if entry.type != BASES_OF:
        raise BinarizeError(
            f"'{entry.name}' is a {entry.type}, and bases and dilations are for the type '{BASES_OF}': set bases to 1 "
            "for it, or keep it"
        )
    if spec.bases == 1 or spec.convs is not None:
        return entry
    records: list[ConvSpec | None] = []
    for number in range(1, _LARGEST + 1):
        own = by_name.get(f"{entry.name}.conv{number}" if entry.name else f"conv{number}")
        if own is not None:
            records.append(own.spec if isinstance(own.spec, ConvSpec) else None)
    return dataclasses.replace(entry, spec=spec.model_copy(update={"convs": tuple(records)}))

"""Layers that repeat in a stack share a row."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"\d+")


def stack_key(name: str) -> str:
    """What the names of layers that repeat have in common: each number in the name becomes "#"."""
    return _NUMBER.sub("#", name)


def stacked_name(names: Sequence[str]) -> str:
    """One name for layers of the same key: `layer.{0..11}.query  ×12`."""
    if len(names) == 1:
        return names[0] if names[0] else "(the model itself)"
    parts, numbers = _NUMBER.split(names[0]), [_NUMBER.findall(n) for n in names]
    text = parts[0]
    for i, part in enumerate(parts[1:]):
        values = sorted({int(n[i]) for n in numbers})
        text += (str(values[0]) if len(values) == 1 else f"{{{values[0]}..{values[-1]}}}") + part
    return f"{text}  ×{len(names)}"

"""Names, numbers and arrays as C writes them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_WIDTH = 116

_TYPES = {np.dtype(np.uint8): "uint8_t", np.dtype(np.int32): "int32_t", np.dtype(np.float32): "float"}


def identifier(name: str, fallback: str) -> str:
    """A name of C made from any text: letters, digits and single underscores, not at the ends, and no digit first."""
    words = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or fallback
    return f"{fallback}_{words}" if words[0].isdigit() else words


def distinct(names: Sequence[str]) -> list[str]:
    """The same names, with a number behind those that were there before. C is told apart by case, as Python is."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 2
        while candidate in taken or (number > 2 and candidate in names):
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate)
        result.append(candidate)
    return result


def number(value: Any) -> str:
    """A literal that a compiler reads as exactly this int32, uint8 or float32."""
    if not isinstance(value, float | np.floating):
        return "INT32_MIN" if int(value) == -(2**31) else str(int(value))
    plain = float(np.float32(value))
    if math.isnan(plain):
        return "NAN"
    if math.isinf(plain):
        return "INFINITY" if plain > 0 else "-INFINITY"
    digits = f"{plain:.9g}"  # nine digits tell all float32 apart
    return f"{digits if '.' in digits or 'e' in digits else digits + '.0'}f"


def comment(text: str) -> str:
    """Text that ends no comment early and has only plain characters."""
    return json.dumps(text).replace("*/", "*\\/").replace("/*", "/\\*").replace("??", "?\\?")


def array(name: str, values: npt.NDArray[Any]) -> str:
    """The definition of a constant array."""
    lines, line = [], " "
    for item in (number(value) for value in values.reshape(-1)):
        if len(line) + len(item) + 2 > _WIDTH:
            lines.append(line)
            line = " "
        line += f" {item},"
    lines.append(line)
    return f"static const {_TYPES[values.dtype]} {name}[{values.size}] = {{\n" + "\n".join(lines) + "\n};\n"


def braces(values: Sequence[Any]) -> str:
    """An initializer list."""
    return "{" + ", ".join(str(value) for value in values) + "}"

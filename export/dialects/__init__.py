"""The forms that an exported file can have: one file each, listed here by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bnnapps.errors import UsageError, nearest

if TYPE_CHECKING:
    from bnnapps.export.flow import Dialect

DIALECTS: dict[str, str] = {
    "portable": "bnnapps.export.dialects.portable",
    "packed": "bnnapps.export.dialects.packed",
    "qonnx": "bnnapps.export.dialects.qonnx",
}
"""Name -> module that holds it as `DIALECT`; a module is imported when its dialect is asked for."""


def get_dialect(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        UsageError: there is none; the available ones are named.

    """
    if name not in DIALECTS:
        hint = f" (nearest: {nearest(name, DIALECTS, 1)})" if len(DIALECTS) > 1 else ""
        raise UsageError(f"unknown dialect '{name}'{hint}; available here: {', '.join(DIALECTS)}")
    dialect: Dialect = importlib.import_module(DIALECTS[name]).DIALECT
    return dialect

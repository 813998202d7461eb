"""The binary layers of a packed file as C: weights, thresholds and geometry for the plain interface `bnn.h`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from bnnapps.export.api import require_packages

__all__ = ["emit_c"]


def emit_c(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Write the binary layers of a packed file as a C header, and beside it a program that runs the first of them.

    Args:
        path: a packed ONNX file.
        folder: where to write `NAME.h` and `NAME_layer.c`, with the name of the file. It is made if it is missing.

    Returns:
        The header.

    Raises:
        ExportError: the file has no binary layer, or one whose parameters have no form in C.
        UsageError: `folder` is a file.

    Example:
        >>> emit_c("runs/birealnet/packed.onnx", "firmware")  # doctest: +SKIP

    """
    require_packages()
    header: Path = importlib.import_module("bnnapps.export.emit.header").write(path, folder)
    return header

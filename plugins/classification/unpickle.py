"""Reads pickles of arrays and plain data; nothing in the file can name code to run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from bnnapps.errors import DataError


def _as_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in old pickles: as text that is to be encoded in latin1, and in nothing else."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _admitted() -> dict[tuple[str, str], Any]:
    """What a file may name: the parts of a numpy array, under the names of numpy 1 and 2, and bytes."""
    multiarray = np.array([0]).__reduce__()[0]
    frombuffer = np.array([0]).__reduce_ex__(5)[0]
    found: dict[tuple[str, str], Any] = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
    for package in ("numpy.core", "numpy._core"):
        found[f"{package}.multiarray", "_reconstruct"] = multiarray
        found[f"{package}.numeric", "_frombuffer"] = frombuffer
    found["_codecs", "encode"] = _as_bytes
    return found


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


_ADMITTED = _admitted()


def read_pickle(path: Path) -> dict[bytes, Any]:
    """The mapping in a pickle of Python 2 or 3, its keys as bytes.

    Raises:
        DataError: the file is missing, damaged, no mapping, or holds more than arrays and plain data; whatever code it
            names is not run.
    """
    try:
        with path.open("rb") as file:
            found = _Restricted(file, encoding="bytes").load()
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}") from None
    except pickle.UnpicklingError as problem:
        if str(problem).startswith(("it names", "bytes in")):
            raise DataError(
                f"{path} holds more than arrays and plain data, so it is refused (loading it could run code): {problem}"
            ) from None
        raise DataError(f"{path} is damaged: {' '.join(str(problem).split())}") from None
    except (EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, ImportError, MemoryError) as problem:
        raise DataError(f"{path} is damaged: {str(problem) or type(problem).__name__}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a {type(found).__name__}; expected a mapping")
    return {key.encode() if isinstance(key, str) else key: value for key, value in found.items()}

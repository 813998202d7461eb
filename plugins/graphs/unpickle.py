"""Reads the pickles of Planetoid: arrays, sparse matrices and lists of neighbours; nothing in a file can name code."""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from bnnapps.errors import DataError


class Sparse:
    """What a pickled `scipy.sparse.csr_matrix` holds: `data`, `indices`, `indptr` and its shape; needs no scipy."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a sparse matrix without its parts")
        self.__dict__.update({str(key): value for key, value in state.items()})

    def dense(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """As an array of float32.

        Raises:
            ValueError: a part is missing, or does not fit the others.
        """
        parts = vars(self)
        shape = parts.get("_shape", parts.get("shape"))
        data, indices, pointers = (np.asarray(parts.get(k)) for k in ("data", "indices", "indptr"))
        if not isinstance(shape, tuple) or len(shape) != 2 or min(shape) < 0:
            raise ValueError(f"a sparse matrix of the shape {shape}")
        rows, columns = (int(s) for s in shape)
        whole = data.ndim == indices.ndim == pointers.ndim == 1 and len(pointers) == rows + 1
        if not whole or len(data) != len(indices) or pointers[-1] != len(data) or (np.diff(pointers) < 0).any():
            raise ValueError("a sparse matrix whose parts do not fit each other")
        if len(indices) and (indices.min() < 0 or indices.max() >= columns):
            raise ValueError(f"a sparse matrix with an entry beyond its {columns} columns")
        found = np.zeros((rows, columns), dtype=np.float32)
        np.add.at(found, (np.repeat(np.arange(rows), np.diff(pointers)), indices), data.astype(np.float32))
        return found


def _as_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in old pickles."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"it names bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _neighbours(factory: Any = None) -> Any:
    """A `defaultdict` that makes lists, or nothing."""
    if factory not in (None, list):
        raise pickle.UnpicklingError("it names a defaultdict of something else than lists")
    return defaultdict(factory)


def _reconstructed(kind: Any, base: Any, state: Any) -> Any:
    """What `copy_reg._reconstructor` does, for sparse matrices alone."""
    if kind is not Sparse or base is not object or state is not None:
        raise pickle.UnpicklingError("it names copy_reg._reconstructor of something else than a sparse matrix")
    return Sparse.__new__(Sparse)


def _admitted() -> dict[tuple[str, str], Any]:
    """What a file may name, under the names of Python 2 and 3, of numpy 1 and 2, and of scipy before and after 1.8."""
    found: dict[tuple[str, str], Any] = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
    for package in ("numpy.core", "numpy._core"):
        found[f"{package}.multiarray", "_reconstruct"] = np.array([0]).__reduce__()[0]
        found[f"{package}.multiarray", "scalar"] = np.float32(0).__reduce__()[0]
        found[f"{package}.numeric", "_frombuffer"] = np.array([0]).__reduce_ex__(5)[0]
    for module in ("scipy.sparse.csr", "scipy.sparse._csr"):
        found[module, "csr_matrix"] = Sparse
        found[module, "csr_array"] = Sparse
    for module in ("__builtin__", "builtins"):
        found[module, "list"] = list
        found[module, "object"] = object
    for module in ("copy_reg", "copyreg"):
        found[module, "_reconstructor"] = _reconstructed
    found["collections", "defaultdict"] = _neighbours
    found["_codecs", "encode"] = _as_bytes
    return found


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


_ADMITTED = _admitted()


def read_planetoid_pickle(path: Path) -> Any:
    """What a file of Planetoid holds: an array, a `Sparse` or a mapping of lists; text of Python 2 as latin1.

    Raises:
        DataError: the file is missing or damaged, or holds more than that; whatever code it names is not run.
    """
    try:
        with path.open("rb") as file:
            return _Restricted(file, encoding="latin1").load()
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}") from None
    except pickle.UnpicklingError as problem:
        if str(problem).startswith("it names"):
            raise DataError(
                f"{path} holds more than arrays and lists, so it is refused (loading it could run code): {problem}"
            ) from None
        raise DataError(f"{path} is damaged: {' '.join(str(problem).split())}") from None
    except (
        *(EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, ImportError, MemoryError),
        *(OverflowError, UnicodeDecodeError, RecursionError, AssertionError),
    ) as problem:
        raise DataError(f"{path} is damaged: {str(problem) or type(problem).__name__}") from None

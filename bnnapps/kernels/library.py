"""Finding and loading the shared library of 1-bit kernels."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import sys
from pathlib import Path

from bnnapps.errors import BnnappsError
from bnnapps.kernels.structures import OK, declare

_NAMES = {"darwin": "libbnnapps.dylib", "win32": "bnnapps.dll"}
FILE_NAME = _NAMES.get(sys.platform, "libbnnapps.so")
"""What the shared library is called on this system."""

VERSION = 1
"""The version of the C interface that this package speaks."""


class RuntimeLibraryError(BnnappsError):
    """The shared library is not there, does not load, or refused what it was asked for."""


@functools.cache
def library_path() -> Path | None:
    """The shared library that was installed with this package; None where none was built."""
    wanted = ("bnnapps", "export", "runtime", FILE_NAME)  # beside the sources that it was built from
    installed = Path(__file__).parents[2].joinpath(*wanted)
    if installed.is_file():
        return installed
    # An editable installation leaves the sources where they are and puts what was built among the installed packages.
    try:
        files = importlib.metadata.distribution("bnnapps").files
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files or ():
        if file.parts == wanted:
            path = Path(str(file.locate()))
            return path if path.is_file() else None
    return None


@functools.cache
def load_library() -> ctypes.CDLL:
    """The library with typed functions (see `export/runtime/native/include/bnn.h`).

    Raises:
        RuntimeLibraryError: it was not built, does not load, or is of another version.

    """
    path = library_path()
    if path is None:
        raise RuntimeLibraryError(
            "the library of 1-bit kernels was not built when bnnapps was installed: install a C++17 compiler and "
            "CMake, then install bnnapps again. Packed models run without it as well, only slowly."
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as problem:
        raise RuntimeLibraryError(f"'{path}' does not load: {problem}") from None
    try:
        found = int(library.bnn_version())
        if found == VERSION:
            return declare(library)
    except AttributeError as problem:
        raise RuntimeLibraryError(f"'{path}' is not the library of this package: {problem}") from None
    raise RuntimeLibraryError(f"'{path}' has version {found} of the C interface, not {VERSION}: install bnnapps again")


def check(status: int) -> None:
    """Turns the status of a call into an exception with the library's own message.

    Raises:
        RuntimeLibraryError: the status is not `BNN_OK`.

    """
    if status != OK:
        raise RuntimeLibraryError(load_library().bnn_last_error().decode())


def available() -> tuple[str, ...]:
    """The instruction sets that the library has kernels for and this CPU has, best first."""
    return tuple(load_library().bnn_available().decode().split())


def isa() -> str:
    """The instruction set in use."""
    name: bytes = load_library().bnn_isa()
    return name.decode()


def set_isa(name: str) -> None:
    """Chooses the instruction set of layers that are created from now on; "auto" for the best.

    Raises:
        RuntimeLibraryError: this CPU or this library does not have it.

    """
    check(load_library().bnn_set_isa(name.encode()))

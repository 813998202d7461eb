"""The packed runtime: the shared library of 1-bit kernels, where it is and how to call it.

Example:
    >>> from bnnapps.export import runtime
    >>> if runtime.library_path() is not None:
    ...     print(runtime.isa() in runtime.available())
    True

"""

from __future__ import annotations

from bnnapps.kernels.library import available, check, isa, library_path, load_library, set_isa

__all__ = ["available", "check", "isa", "library_path", "load_library", "set_isa"]

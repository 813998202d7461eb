"""What `bnnapps runtime info` says: is there a library, what can it do here, does ONNX Runtime take it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import asdict, dataclass
from typing import Any

from bnnapps.errors import ExportError, MissingExtraError
from bnnapps.export.api import require_packages
from bnnapps.kernels.library import VERSION, RuntimeLibraryError, available, isa, library_path, load_library


@dataclass(frozen=True)
class RuntimeInfo:
    """The packed runtime on this machine.

    Attributes:
        library: the path of the shared library, or `None`: none was built.
        loads: whether it loads, and is of this package's version.
        interface: the version of its C interface.
        expected_interface: the one that this package speaks.
        instruction_sets: those that the library has kernels for and this CPU has, best first.
        in_use: the one that is used.
        onnxruntime: the version of ONNX Runtime, or `None`: it is not installed.
        operators: whether the operators of packed files register there.
        problem: what is wrong, and what to do; `None` where all is well.

    """

    library: str | None
    loads: bool
    interface: int | None
    expected_interface: int
    instruction_sets: tuple[str, ...]
    in_use: str | None
    onnxruntime: str | None
    operators: bool
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"instruction_sets": list(self.instruction_sets)}


def runtime_info() -> RuntimeInfo:
    """Look at the library of kernels and at ONNX Runtime; never raises."""
    path = library_path()
    installed = importlib.util.find_spec("onnxruntime") is not None
    version = importlib.metadata.version("onnxruntime") if installed else None
    shown = None if path is None else str(path)
    try:
        interface = int(load_library().bnn_version())
        sets, used = available(), isa()
    except RuntimeLibraryError as failure:
        return RuntimeInfo(shown, False, None, VERSION, (), None, version, False, str(failure))
    problem = _registration()
    return RuntimeInfo(shown, True, interface, VERSION, sets, used, version, problem is None, problem)


def _registration() -> str | None:
    """What stands in the way of the operators in ONNX Runtime."""
    try:
        require_packages()

        import onnxruntime

        from bnnapps.export.session import register

        register(onnxruntime.SessionOptions())
    except (ExportError, MissingExtraError) as problem:
        return str(problem)
    return None

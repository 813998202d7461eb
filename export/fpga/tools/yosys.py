"""Yosys, as the package pyosys brings it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bnnapps.export.fpga.tools.found import require_pyosys
from bnnapps.export.fpga.tools.process import Tick, Usage, run_tool


def run_yosys(commands: Sequence[str], folder: Path, name: str, purpose: str, tick: Tick | None = None) -> Usage:
    """Run Yosys commands in a folder, with NAME.ys as script and NAME.log as log.

    Raises:
        MissingExtraError: pyosys is not installed.
        ExportError: Yosys fails.

    """
    require_pyosys(purpose)
    (folder / f"{name}.ys").write_text("\n".join(commands) + "\n", encoding="utf-8")
    child = Path(__file__).with_name("yosys_child.py")
    return run_tool("Yosys", [sys.executable, str(child), f"{name}.ys"], folder, f"{name}.log", tick)

"""From a trained network to Verilog, simulated bit for bit, synthesised, placed and routed: see docs/fpga.md."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["build", "list_steps"]


def list_steps() -> list[tuple[str, str]]:
    """The steps of the flow in order: name, and what it does."""
    steps: tuple[tuple[str, str], ...] = importlib.import_module("bnnapps.export.fpga.flow").STEPS
    return list(steps)


def build(*arguments: Any, **options: Any) -> dict[str, Any]:
    """See `bnnapps.export.fpga.flow.build`; what it needs is imported when it is called."""
    found: dict[str, Any] = importlib.import_module("bnnapps.export.fpga.flow").build(*arguments, **options)
    return found
